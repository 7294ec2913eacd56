/* SPDX-License-Identifier: MIT */
/*
 * The agent: the part of `zonedev run` that lives in the program.
 *
 * UFFDIO_MOVE must be called by a task that has the address space.  So the
 * preloaded library makes one small process that shares it, and nothing else,
 * with the program: the agent.  It opens the userfaultfd, hands it to the
 * supervisor, and from then on moves pages to staging when it is told to.  It
 * decides nothing.
 *
 *	start.c      when the program begins, forks, ends
 *	birth.c      making the agent, so that the program doesn't notice
 *	handshake.c  greeting the supervisor
 *	loop.c       from the greeting to the end
 *	staging.c    moving pages
 *	confine.c    what the agent may do: next to nothing
 *
 * Everything but start.c runs in the agent, or in the process that makes it:
 * system calls by instruction only, because libc's wrappers would write to the
 * errno of the program's thread, whose TLS they share; no lock of the program
 * can ever be waited for.
 *
 * All of the agent's memory lies in one reservation fenced by PROT_NONE pages,
 * which the supervisor leaves alone.
 */
#ifndef ZD_RUN_AGENT_AGENT_H
#define ZD_RUN_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/rawsys.h"
#include "run/agent/agent_proto.h"

#define PAGE		4096UL
#define STACK_BYTES	(8 * PAGE)
#define MIDDLE_BYTES	(2 * PAGE)	/* the middleman's stack */
#define RING_BYTES	((sizeof(struct zd_agent_ring) + PAGE - 1) & ~(PAGE - 1))

/* How the making of an agent went; what the program's thread may do next. */
enum agent_birth {
	BIRTH_UNKNOWN,	/* the middleman was killed at once */
	BIRTH_BEGUN,	/* no agent; a filter may forbid to reap the middleman */
	BIRTH_DONE,	/* the middleman can be reaped; there is an agent if there can be one */
	BIRTH_THREAD,	/* the same, but the agent has to be a thread */
};

struct agent {
	char name[ZD_AGENT_NAME];	/* of the abstract socket */
	struct zd_agent_hello hello;
	char *nowhere;		/* the end of a PROT_NONE page: a stack without room */
	char *stack, *middle_stack;
	struct zd_agent_ring *ring;
	int kind;
	bool thread;		/* of the program, not a process */
	pid_t owner;		/* the program */
	unsigned long parent;	/* CLONE_PARENT: the supervisor's child, as the program is; or 0 */
	int pidfd;		/* of the program; -1: thread */
	uint32_t birth;		/* enum agent_birth */
	bool refused;		/* the middleman could not make an agent: too many processes */
	uint32_t greeted;	/* a futex */
};

extern struct agent agent;

/* birth.c */
void agent_birth(void);
/* Faults wait for room that the agent makes: it runs at once when it is woken. */
void agent_be_prompt(void);
/* handshake.c: the socket, with *uffd set; or -errno: run unmanaged. */
int agent_handshake(int *uffd);
void agent_regret(int error);
/* loop.c: the agent itself. */
int agent_main(void);
/* staging.c: 0, or -errno: it is not empty, and nothing can be moved there. */
long agent_empty_staging(int uffd);
void agent_serve(int uffd, struct zd_agent_ring *ring, bool dirty);
/* confine.c: from here on only what agent_main()'s loop does. */
int agent_confine(int sock, int uffd);

#endif
