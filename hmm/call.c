/* SPDX-License-Identifier: MIT */
/* Calls on the server's thread; see call.h. */
#include "hmm/call.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "engine/changes.h"
#include "hmm/hmm.h"
#include "zonedev/log.h"

int zd_hmm_callable(const struct zd_hmm *hmm)
{
	if (!zd_is_this_process(&hmm->process)) {
		zd_warn_once("a zd_mm belongs to the process that opened it, not to its children");
		return -EINVAL;
	}
	if (pthread_equal(pthread_self(), hmm->thread.thread)) {
		zd_warn_once("a driver's callback can't migrate memory: it would wait for itself");
		return -EINVAL;
	}
	return 0;
}

int zd_hmm_send(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	static const uint64_t one = 1;
	struct zd_cmd *head = __atomic_load_n(&hmm->inbox, __ATOMIC_RELAXED);
	int rc = zd_hmm_callable(hmm);

	if (rc)
		return rc;
	zd_completion_init(&cmd->done);
	do {
		cmd->next = head;
		/* release: the server sees the command whole; pairs with the
		 * exchange in take_inbox() */
	} while (!__atomic_compare_exchange_n(&hmm->inbox, &head, cmd, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	while (write(hmm->wake.fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	return 0;
}

int zd_hmm_call(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	int rc = zd_hmm_send(hmm, cmd);

	if (rc)
		return rc;
	zd_wait_for_completion(&cmd->done);
	return cmd->rc;
}

/* The inbox is a stack, newest first: append it to the active commands, oldest first.
 * The server's thread. */
static void take_inbox(struct zd_hmm *hmm)
{
	/* acquire: pairs with the release in zd_hmm_send() */
	struct zd_cmd *cmd = __atomic_exchange_n(&hmm->inbox, NULL, __ATOMIC_ACQUIRE);
	struct zd_cmd *in_order = NULL, *next, **tail;

	for (; cmd; cmd = next) {
		next = cmd->next;
		cmd->next = in_order;
		in_order = cmd;
	}
	for (tail = &hmm->active; *tail; tail = &(*tail)->next)
		;
	*tail = in_order;
}

void zd_hmm_inbox_ready(struct zd_source *source, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(source->fd, &n, sizeof(n)) < 0)
		return;
	take_inbox(caa_container_of(source, struct zd_hmm, wake));
}

bool zd_hmm_step_commands(struct zd_hmm *hmm)
{
	struct zd_cmd **link = &hmm->active, *cmd;
	bool again = false;

	/* The caller knows of changes to its memory whose events have been read, and which
	 * the entries don't show yet. */
	if (!zd_mm_is_current(hmm->mm) && !zd_mm_catch_up(hmm->mm))
		return hmm->active;
	while ((cmd = *link)) {
		enum zd_cmd_result r = cmd->step(hmm, cmd);

		again |= r == ZD_CMD_AGAIN;
		if (r == ZD_CMD_DONE) {
			*link = cmd->next;
			zd_complete(&cmd->done);
		} else {
			link = &cmd->next;
		}
	}
	return again;
}
