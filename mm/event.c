/* SPDX-License-Identifier: MIT */
/*
 * Messages of a userfaultfd.
 *
 * The kernel lets a thread that changes its address space go on as soon as we
 * have read its event.  Until the event is processed, our entries and the
 * address space disagree, and a page moved out in that time might be a new
 * mapping's.  So: reading is bracketed by the mover's lock, every event of a
 * batch is processed inside it, and before the first one the mover is told to
 * give up what it has not moved yet.  Faults are served after: an event that was
 * read together with a fault happened before the fault can be answered.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <urcu/compiler.h>

#include "mm/mig.h"
#include "mm/mm.h"
#include "mm/uapi.h"
#include "mm/uffd.h"
#include "zonedev/log.h"

#define BATCH	32

static void forked(struct zd_mm *mm, int uffd)
{
	struct zd_mm *child;
	int rc = zd_mm_create(mm->server, uffd, mm, &child);

	if (rc) {
		zd_log(ZD_LOG_ERR, "out of memory: a forked child can't be served, "
		       "it will hang at the first page that is away");
		return;
	}
	mm->server->host->forked(mm, child);
}

static void event(struct zd_mm *mm, const struct uffd_msg *msg)
{
	mm->server->stats.c.events++;
	if (mm->out)
		mm->mover->cancel(mm, mm->out);
	switch (msg->event) {
	case UFFD_EVENT_FORK:
		forked(mm, msg->arg.fork.ufd);
		break;
	case UFFD_EVENT_REMAP:
		zd_mm_remap(mm, msg->arg.remap.from, msg->arg.remap.to, msg->arg.remap.len);
		break;
	case UFFD_EVENT_REMOVE:
		zd_mm_remove(mm, msg->arg.remove.start, msg->arg.remove.end);
		break;
	case UFFD_EVENT_UNMAP:
		zd_mm_forget(mm, msg->arg.remove.start, msg->arg.remove.end);
		break;
	default:
		zd_warn_once("unknown userfaultfd event %#x", msg->event);
	}
}

unsigned int zd_mm_read(struct zd_mm *mm)
{
	bool (*own_fault)(struct zd_mm *mm, uint64_t addr);
	struct uffd_msg msg[BATCH];
	uint64_t now;
	ssize_t n;

	if (mm->dead)
		return 0;
	if (mm->mover && !mm->mover->read_begin(mm))
		return 0;	/* a MOVE runs; epoll will remind us */
	if (mm->out)	/* the next message may be a fork's */
		zd_out_prefetch(mm->out);
	n = read(zd_mm_uffd(mm), msg, sizeof(msg));
	n = n < 0 ? 0 : n / (ssize_t)sizeof(msg[0]);
	for (ssize_t i = 0; i < n; i++)
		if (msg[i].event != UFFD_EVENT_PAGEFAULT)
			event(mm, &msg[i]);
	if (mm->mover)
		mm->mover->read_end(mm);
	own_fault = mm->server->host->own_fault;
	now = n ? zd_now_ns() : 0;
	for (ssize_t i = 0; i < n; i++) {
		if (msg[i].event != UFFD_EVENT_PAGEFAULT)
			continue;
		if (own_fault && own_fault(mm, msg[i].arg.pagefault.address & ~(ZD_PAGE_SIZE - 1)))
			continue;	/* not the program's */
		mm->server->stats.c.faults++;
		mm->server->last_fault = mm;
		zd_fault(mm, msg[i].arg.pagefault.address, msg[i].arg.pagefault.flags, now);
	}
	return n;
}

void zd_mm_ready(struct zd_source *source, uint32_t events)
{
	(void)events;
	zd_mm_read(caa_container_of(source, struct zd_mm, source));
}
