/* SPDX-License-Identifier: MIT */
/*
 * A turn of the server: sleep until there is something, handle what epoll reports, then
 * what no descriptor announces (changes that can be followed by now, batches that could not
 * land, faults that waited), then evict.
 */
#include <errno.h>
#include <sched.h>

#include "base/time.h"
#include "engine/backlog.h"
#include "engine/changes.h"
#include "engine/delayed_put.h"
#include "engine/event.h"
#include "engine/demote.h"
#include "engine/evict.h"
#include "engine/fault.h"
#include "engine/mig.h"
#include "engine/poll.h"
#include "engine/silence.h"

#define SPIN_NS		30000	/* about what a wake-up costs */
#define SPIN_FAULTS	32	/* then the other sources get a look */
#define SPIN_LUCK	8
#define SPIN_REST	256
#define CATCH_UP_YIELDS	8
#define RETRY_MS	1	/* while something waits that no descriptor announces */

/* Faults that waited, once each whose time has come. */
static void run_backlog(struct zd_server *server)
{
	struct zd_backlog *backlog = &server->backlog;
	uint64_t now = zd_now_ns();
	size_t nr = backlog->nr, left = 0;

	for (size_t i = 0; i < nr; i++) {
		struct zd_waiting_fault f = backlog->v[i];	/* the array may grow meanwhile */
		struct zd_mm *mm = server->slots[f.slot];

		if (mm && f.after_ns > now)
			backlog->v[left++] = f;
		else if (mm)
			zd_fault(mm, f.addr, f.flags, f.start_ns);
	}
	zd_backlog_drop(backlog, left, nr);
}

static int wait_ms(struct zd_server *server, int timeout_ms)
{
	uint64_t due = zd_backlog_due_ns(&server->backlog), now;
	bool retry = !due || server->changes_pending;
	int wait = -1;
	struct zd_mig *mig;

	cds_list_for_each_entry(mig, &server->migs, node)
		retry |= mig->retry;
	if (server->demote_more)
		return 0;
	if (retry) {
		wait = RETRY_MS;
	} else if (due != UINT64_MAX) {
		now = zd_now_ns();
		wait = due > now ? (int)((due - now) / 1000000) + 1 : 0;
	} else if (!cds_list_empty(&server->migs)) {
		wait = ZD_SILENCE_MS;	/* zd_silence_check() wants a turn */
	}
	return wait >= 0 && (timeout_ms < 0 || timeout_ms > wait) ? wait : timeout_ms;
}

/*
 * A program that faults often faults again at once, and waking the server for that, on a
 * CPU that went to sleep meanwhile, costs more than the fault.  So after a fault the server
 * polls for the next one for a while before it sleeps, and yields the CPU to any other
 * thread in between.
 *
 * The server spins while that finds faults: a fault found raises spin_luck, an empty spin
 * lowers it, and a server without luck tries again only now and then.  A server that is a
 * thread of the program doesn't spin: spinning would keep it off the program's CPU, where its
 * next wake-up is cheapest.  It reads once more after each fault instead (zd_mm_ready()).
 */
static void spin(struct zd_server *server)
{
	struct zd_mm *mm = server->last_fault;
	uint64_t until;

	server->last_fault = NULL;
	if (!mm || !server->spin || (server->spin_luck < 0 && ++server->spin_luck < 0))
		return;
	until = zd_now_ns() + SPIN_NS;
	for (unsigned int found = 0; found < SPIN_FAULTS;) {
		if (zd_mm_read(mm)) {
			found++;
			server->spin_luck = SPIN_LUCK;
			until = zd_now_ns() + SPIN_NS;
			continue;
		}
		if (zd_now_ns() >= until) {
			if (!found && --server->spin_luck < 0)
				server->spin_luck = -SPIN_REST;
			return;
		}
		sched_yield();
	}
}

/*
 * After its event has been read a thread has to run before its address space is still, and
 * no descriptor tells of that.  The thread runs soon: yield a few times, so that the faults
 * that wait for it don't wait for RETRY_MS.
 */
static void wait_for_changes(struct zd_server *server)
{
	for (unsigned int i = 0; server->changes_pending && i < CATCH_UP_YIELDS; i++) {
		server->changes_pending = !zd_mms_catch_up(server);
		if (server->changes_pending)
			sched_yield();
	}
}

/* The server's thread; blocks in epoll_wait() alone. */
int zd_server_poll(struct zd_server *server, int timeout_ms)
{
	int n;

	spin(server);
	wait_for_changes(server);
	zd_flush_delayed_puts(server);
	n = zd_loop_wait(&server->loop, wait_ms(server, timeout_ms));
	if (n < 0)
		return n == -EINTR ? 0 : n;
	if (server->changes_pending)
		server->changes_pending = !zd_mms_catch_up(server);
	zd_migs_retry(server);
	if (server->backlog.nr)
		run_backlog(server);
	zd_server_evict(server);
	zd_server_demote(server);
	zd_flush_delayed_puts(server);
	zd_silence_check(server);
	return n;
}
