/* SPDX-License-Identifier: MIT */
/*
 * Messages of a userfaultfd.
 *
 * The kernel lets a thread that changes its address space go on as soon as its event has
 * been read.  Until the event is followed (changes.c), entries and address space disagree,
 * and a page moved out in that time might be a new mapping's.  So: reading is bracketed by
 * the mover's lock, every event of a batch is logged under that lock, and before the first
 * event the mover is told to give up the pages that it has not moved yet; no page is moved
 * while there is a log.  Faults are served after the events that were read with them.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <urcu/compiler.h>

#include "base/time.h"
#include "base/uapi.h"
#include "engine/changes.h"
#include "engine/delayed_put.h"
#include "engine/event.h"
#include "engine/fault.h"
#include "engine/out.h"
#include "guard/keeper.h"
#include "space/uffd.h"
#include "zonedev/log.h"

#define BATCH	32	/* messages in a read, where there may be several */
#define READS	32	/* in a row; then the other sources get a look */

static void forked(struct zd_mm *mm, int uffd)
{
	struct zd_change change = { .type = ZD_CHANGE_FORK };
	struct zd_mm *child;
	int rc;

	zd_keeper_add(mm->server->keeper, uffd);
	rc = zd_mm_create(mm->server, uffd, mm, &child);
	if (rc) {
		zd_log(ZD_LOG_ERR, "out of memory: a forked child can't be served, "
				   "it will hang at the first page that is away");
		return;
	}
	mm->server->host->forked(mm, child);
	change.child = child;
	zd_mm_log_change(mm, &change);
}

static void event(struct zd_mm *mm, const struct uffd_msg *msg)
{
	struct zd_change change = { .start = msg->arg.remove.start, .end = msg->arg.remove.end };

	mm->server->stats.c.events++;
	/* a page that the event drops is freed only if no delayed put holds it */
	zd_flush_delayed_puts(mm->server);
	if (mm->out)
		mm->mover->cancel(mm, mm->out);
	switch (msg->event) {
	case UFFD_EVENT_FORK:
		forked(mm, msg->arg.fork.ufd);
		break;
	case UFFD_EVENT_REMAP:
		change = (struct zd_change){
			.type = ZD_CHANGE_MOVE, .dontunmap = true, .start = msg->arg.remap.from,
			.end = msg->arg.remap.from + msg->arg.remap.len, .to = msg->arg.remap.to,
		};
		zd_mm_log_change(mm, &change);
		break;
	case UFFD_EVENT_REMOVE:
		change.type = ZD_CHANGE_REMOVE;
		zd_mm_log_change(mm, &change);
		break;
	case UFFD_EVENT_UNMAP:
		change.type = ZD_CHANGE_UNMAP;
		zd_mm_log_change(mm, &change);
		break;
	default:
		zd_warn_once("unknown userfaultfd event %#x", msg->event);
	}
}

/* The server's thread; takes the mover's lock for the read, if it is free. */
unsigned int zd_mm_read(struct zd_mm *mm)
{
	bool (*own_fault)(struct zd_mm *mm, uint64_t addr);
	struct zd_server *server = mm->server;
	struct uffd_msg msg[BATCH];
	uint64_t now;
	ssize_t n;

	if (mm->dead)
		return 0;
	if (mm->nr_changes)	/* they happened before what is read now */
		zd_mm_catch_up(mm);
	if (mm->mover && !mm->mover->read_begin(mm))
		return 0;	/* a MOVE runs; epoll will remind us */
	if (mm->out)	/* the next message may be a fork's */
		zd_out_prefetch(mm->out);
	/*
	 * One message: after the first the kernel looks for another, which costs
	 * more than another read now and then.  But the kernel returns faults before
	 * events, and serving faults fails while an event is due: where threads fault
	 * all the time, the event is reached only behind a batch of their faults, of
	 * which none has been woken.
	 */
	zd_mm_set_behind(mm, true);
	n = read(zd_mm_uffd(mm), msg, mm->event_due ? sizeof(msg) : sizeof(msg[0]));
	if (n < 0 && (errno == EMFILE || errno == ENFILE))
		zd_warn_once(
			"no file descriptor for a forked child: fork() waits until a process ends; "
			"raise the limit (ulimit -Hn)");
	n = n < 0 ? 0 : n / (ssize_t)sizeof(msg[0]);
	mm->event_due = n == BATCH;
	for (ssize_t i = 0; i < n; i++)
		if (msg[i].event != UFFD_EVENT_PAGEFAULT)
			event(mm, &msg[i]);
	zd_mm_set_behind(mm, false);
	if (mm->mover)
		mm->mover->read_end(mm);
	own_fault = server->host->own_fault;
	now = n > 1 ? zd_now_ns() : 0;
	for (ssize_t i = 0; i < n; i++) {
		if (msg[i].event != UFFD_EVENT_PAGEFAULT)
			continue;
		if (own_fault && own_fault(mm, msg[i].arg.pagefault.address & ~(ZD_PAGE_SIZE - 1)))
			continue;	/* not the program's */
		server->stats.c.faults++;
		server->last_fault = mm;
		zd_fault(mm, msg[i].arg.pagefault.address, msg[i].arg.pagefault.flags,
			 !zd_stats_timed(&server->stats) ? 0 :
			 now				 ? now :
							   zd_now_ns());
	}
	return n;
}

void zd_mm_ready(struct zd_source *source, uint32_t events)
{
	struct zd_mm *mm = caa_container_of(source, struct zd_mm, source);
	unsigned int max = mm->server->spin ? 1 : READS;

	(void)events;
	/* The thread that was served may get the CPU before the server does, and fault
	 * again: another read costs less than a round of epoll.  A server that spins reads
	 * again after its evictions instead (poll.c). */
	for (unsigned int i = 0; i < max && zd_mm_read(mm); i++)
		;
}
