/* SPDX-License-Identifier: MIT */
/*
 * Calls on the server's thread.
 *
 * Mechanism.  A call becomes a command: the caller's thread queues it, the server's thread
 * runs its steps between two polls, and the caller sleeps until the last step.  So every
 * entry has one writer, and a call never holds a lock while it waits.
 *
 * Invariants.  The server's thread never touches the caller's memory, which may be managed,
 * even the caller's stack.  A command lies in zonedev's own memory (zd_alloc()), and the
 * caller's thread copies what goes in and what comes out.  Between its queueing and its
 * completion a command belongs to the server's thread.
 *
 * Ordering.  Queueing a command is a release, taking the inbox an acquire; zd_complete() is
 * a release, and the wait for it an acquire (base/lock.h).
 */
#ifndef ZD_HMM_CALL_H
#define ZD_HMM_CALL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/lock.h"
#include "engine/homing.h"

struct zd_hmm;

/* First member of each command's struct. */
struct zd_cmd {
	struct zd_cmd *next;
	/* The server's thread; may not block.  Sets @cmd->rc. */
	enum zd_cmd_result (*step)(struct zd_hmm *hmm, struct zd_cmd *cmd);
	int rc;
	struct zd_completion done;
};

/* --- the caller's thread; no locks; zd_hmm_call() blocks --- */

/* May this thread call?  0; -EINVAL, warned once: it is a forked child's, or the server's
 * own (a driver's callback). */
int zd_hmm_callable(const struct zd_hmm *hmm);
/* Run @cmd to its end and return its rc; -EINVAL as above. */
int zd_hmm_call(struct zd_hmm *hmm, struct zd_cmd *cmd);
/* Queue @cmd for a caller that waits for cmd->done in a way of its own.  0; -EINVAL as
 * above. */
int zd_hmm_send(struct zd_hmm *hmm, struct zd_cmd *cmd);

/* --- the server's thread --- */

/* hmm->wake is ready: take the commands that have been queued. */
void zd_hmm_inbox_ready(struct zd_source *source, uint32_t events);
/* Step every command once.  True: at least one can go on at once. */
bool zd_hmm_step_commands(struct zd_hmm *hmm);

#endif
