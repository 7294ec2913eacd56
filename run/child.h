/* SPDX-License-Identifier: MIT */
/*
 * How the program stands: running, stopped, ended.
 *
 * When ^Z, or another stop signal to the supervisor, has stopped the program, the supervisor
 * stops as well, so that the shell sees it and continues both.  When the program alone is told
 * to stop the supervisor goes on: the program would be continued alone, and hang at its first
 * page that is away.
 */
#ifndef ZD_RUN_CHILD_H
#define ZD_RUN_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child {
	pid_t pid;
	bool managed;			/* it has had an agent */
	bool done;			/* it has ended: */
	int status;			/* as waitpid() tells it */
	uint64_t end_ns;
	int stopped;			/* by which signal; 0: it isn't stopped */
	uint64_t told_to_stop_ns;	/* the supervisor was, at that time; 0: it wasn't */
};

/* All in the thread that serves. */

bool child_is_alive(const struct child *child);

/* The program has ended with @status. */
void child_ended(struct child *child, int status);

/* Reap whatever child has ended, and see how the program stands. */
void child_reap(struct child *child);

/* Is @sig one by which a terminal stops a process group? */
bool child_stops_by(int sig);

/* The supervisor has got @sig. */
void child_told(struct child *child, int sig);

/* Stop this process if the program has stopped by what the supervisor was told.  Returns when
 * the supervisor is continued. */
void child_stop_with(struct child *child);

#endif
