/* SPDX-License-Identifier: MIT */
/*
 * The witness: a small process in the supervisor's process group, which knows what signals
 * the group has got.
 *
 * A signal that the supervisor gets was sent either to its pid, and is meant for the
 * program; or to its process group: then the program, which is in that group, has got the
 * signal already.  The kernel doesn't say which.  The witness has every signal blocked; it
 * gets what the group gets, and before the supervisor does (the kernel goes through a group
 * from the youngest process to the oldest).  So the supervisor asks whether the signal is
 * pending in the witness.
 *
 * The witness also sees the end of the supervisor, and kills the program then, should there
 * be no agent yet to do so.
 *
 * Context: the supervisor's thread that serves.  Nothing blocks but witness_stop().
 */
#ifndef ZD_RUN_WITNESS_H
#define ZD_RUN_WITNESS_H

#include <stdbool.h>
#include <sys/types.h>

struct witness {
	pid_t pid;		/* 0: none */
	int sock;		/* SEQPACKET: a question, its answer */
};

/* Before there are threads. */
int witness_start(struct witness *w);
void witness_stop(struct witness *w);
/* In a copy of the supervisor: the witness is not its child. */
void witness_forget(struct witness *w);
/* The process of @pidfd is to be killed when the supervisor is dead. */
int witness_guard(struct witness *w, int pidfd);
/* Ask whether signal @sig is pending in the witness, and have it taken from there. */
int witness_ask(struct witness *w, int sig);
/* The answers, in the questions' order: 1, 0; -EAGAIN: none yet; -errno: the witness is gone. */
int witness_answer(struct witness *w);
/* The supervisor has got SIGCONT.  True: the witness had been stopped with the group, and did
 * not get that SIGCONT, which was sent to the supervisor alone; the witness goes on now. */
bool witness_continue(struct witness *w);

#endif
