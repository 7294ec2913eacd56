/* SPDX-License-Identifier: MIT */
/*
 * The witness: a small process in the supervisor's process group.
 *
 * A signal that the supervisor gets was sent either to its pid, and is meant for the
 * program; or to its group, which the program is in as well and has got it already.  The
 * kernel doesn't say which.  The witness has every signal blocked; what the group gets it
 * gets too, and before the supervisor does (the kernel goes through a group from the
 * youngest process to the oldest).  So the supervisor asks: do you have this one pending?
 *
 * It also sees the end of the supervisor, and kills the program then, should there be
 * no agent yet to do so.
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
/* In a copy of the supervisor, whose child it isn't. */
void witness_forget(struct witness *w);
/* Whom to kill when the supervisor is dead. */
int witness_guard(struct witness *w, int pidfd);
/* Asks whether signal @sig is pending there, and has it taken away; witness_answer(): 1 or
 * 0 for the questions in their order, -EAGAIN: not yet, other errors: it is gone. */
int witness_ask(struct witness *w, int sig);
int witness_answer(struct witness *w);
/* It was stopped with the group, and the supervisor alone was continued: let it go on. */
bool witness_continue(struct witness *w);

#endif
