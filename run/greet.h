/* SPDX-License-Identifier: MIT */
/* What becomes of an agent's hello. */
#ifndef ZD_RUN_GREET_H
#define ZD_RUN_GREET_H

#include <stdbool.h>
#include <sys/types.h>

#include "engine/server.h"
#include "run/agent/agent_proto.h"

struct run;

/* A connection that hasn't said a good hello yet; link.c makes and frees it. */
struct conn {
	struct zd_source source;
	struct run *run;
	pid_t peer;		/* the one that connected: the agent, or the program whose thread
				 * the agent is */
	pid_t pid, agent;	/* of the program; of the agent, 0: a thread */
	int pidfd;		/* of the program */
	bool dev_offered;	/* /dev/userfaultfd has been sent */
};

#define GREET_FDS	3	/* as many descriptors as come with a hello */

/*
 * greet - answer the hello @h, with which the @nr descriptors @fd came (-1 behind those).
 *
 * The descriptors are taken.  True: the socket is a process's now, and @c only to be freed.
 * Server's thread; doesn't block.
 */
bool greet(struct conn *c, const struct zd_agent_hello *h, const int *fd, unsigned int nr);

#endif
