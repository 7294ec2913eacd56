/* SPDX-License-Identifier: MIT */
/* The server's thread: how it is made, and its loop; see hmm.h. */
#include "base/thread.h"
#include "base/time.h"
#include "engine/exit.h"
#include "engine/poll.h"
#include "hmm/hmm.h"
#include "space/uffd.h"

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
	return zd_thread_start(&hmm->thread, "zonedev", thread_main, hmm);
}

void zd_hmm_join_thread(struct zd_hmm *hmm)
{
	zd_thread_join(&hmm->thread);
}
