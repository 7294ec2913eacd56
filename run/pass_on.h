/* SPDX-License-Identifier: MIT */
/*
 * Passing signals on to the program.
 *
 * Every signal that can be caught is passed on, once: those to the supervisor's pid, with the
 * value that came with them, but not those to its process group, which the program has got by
 * itself.  The witness tells the two apart; that takes a moment, so signals wait in a queue,
 * and keep their order.  To a program that leads a group of its own (inherit.h) the signals to
 * the supervisor's group are passed on, too, with that group as their target.
 */
#ifndef ZD_RUN_PASS_ON_H
#define ZD_RUN_PASS_ON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/server.h"
#include "run/witness.h"

struct child;

#define NR_QUESTIONS	64

/* A signal of which the witness is asked. */
struct question {
	int sig, code;
	pid_t pid;
	uid_t uid;
	uint64_t value;
	bool passed;			/* whatever the answer */
};

struct pass_on {
	struct zd_server *server;
	struct witness *witness;
	const struct child *child;
	bool leads_group;		/* the program has a process group of its own */
	struct zd_source answers;	/* the witness's; fd -1: there is no witness */
	struct question question[NR_QUESTIONS];
	unsigned int first_question, nr_questions;
};

/* All in the thread that serves; none blocks. */

/* 0 or -errno. */
int pass_on_open(struct pass_on *p, struct zd_server *server, struct witness *witness,
		 const struct child *child, bool leads_group);
/* Without a witness: what waits, and all that comes, is passed on by a guess. */
void pass_on_without_witness(struct pass_on *p);

bool pass_on_is_full(const struct pass_on *p);
/* Pass @q on when the witness has answered.  Not while the queue is full. */
void pass_on(struct pass_on *p, const struct question *q);
/* Pass @q on at once, to the program alone. */
void pass_on_now(struct pass_on *p, const struct question *q);

#endif
