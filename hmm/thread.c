/* SPDX-License-Identifier: MIT */
/* The server's thread: how it is made, and its loop; see hmm.h. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "base/alloc.h"
#include "engine/exit.h"
#include "engine/poll.h"
#include "hmm/hmm.h"
#include "space/uffd.h"

/* Lazily committed, so cheap; the program's static TLS is in it as well. */
#define STACK_BYTES	(2 * 1024 * 1024)

#define WAIT_MS		10	/* commands may have a deadline */
#define REAP_MS		100	/* no descriptor tells that a child has ended */

/* Forget the children whose address space is gone. */
static void reap_children(struct zd_hmm *hmm)
{
	struct zd_mm *mm, *next;

	cds_list_for_each_entry_safe(mm, next, &hmm->server.mms, node) {
		if (mm == hmm->mm)
			continue;
		if (mm->dead || !zd_uffd_mm_alive(zd_mm_uffd(mm)))
			zd_mm_destroy(mm);
	}
}

static bool has_children(const struct zd_hmm *hmm)
{
	return hmm->server.mms.next != hmm->server.mms.prev;
}

static int poll_ms(const struct zd_hmm *hmm, bool again)
{
	if (again)
		return 0;
	if (hmm->active)
		return WAIT_MS;
	return has_children(hmm) ? REAP_MS : -1;
}

static void *thread_main(void *arg)
{
	struct zd_hmm *hmm = arg;
	uint64_t reap_at = 0;
	bool again = false;

	pthread_setname_np(pthread_self(), "zonedev");
	while (!hmm->server.stop) {
		zd_server_poll(&hmm->server, poll_ms(hmm, again));
		again = zd_hmm_step_commands(hmm);
		if (has_children(hmm) && zd_now_ns() >= reap_at) {
			reap_children(hmm);
			reap_at = zd_now_ns() + REAP_MS * 1000000ull;
		}
	}
	/* in this thread, whose end the guards take for a death */
	zd_hmm_stop_guards(hmm);
	return NULL;
}

int zd_hmm_start_thread(struct zd_hmm *hmm)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	hmm->stack = zd_reserve(STACK_BYTES);
	if (!hmm->stack)
		return -ENOMEM;
	pthread_attr_init(&attr);
	rc = pthread_attr_setstack(&attr, hmm->stack, STACK_BYTES);
	/* Signals are the program's: a handler of the program on this stack could touch
	 * managed memory, which only this thread can bring home. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!rc)
		rc = pthread_create(&hmm->thread, &attr, thread_main, hmm);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc) {
		zd_unreserve(hmm->stack, STACK_BYTES);
		hmm->stack = NULL;
	}
	return -rc;
}

void zd_hmm_join_thread(struct zd_hmm *hmm)
{
	pthread_join(hmm->thread, NULL);
	zd_unreserve(hmm->stack, STACK_BYTES);
}
