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
 *	agent.c      the agent's memory in the program
 *	start.c      when the program begins, forks, ends
 *	birth.c      making the agent, so that the program doesn't notice
 *	prompt.c     running at once when woken
 *	handshake.c  greeting the supervisor
 *	loop.c       from the greeting to the end
 *	staging.c    moving pages
 *	confine.c    what the agent may do: next to nothing
 *
 * The files that stand in front of libc's calls are listed in preload.h.
 *
 * Context: start.c runs in the program's thread, all else in the agent, or in the middleman
 * that makes the agent (birth.c says what the program's thread does of it).  Both share
 * the memory of the program's thread, its TLS included: so they make system calls by
 * instruction only, because libc's wrappers would write to that thread's errno, they call
 * no malloc(), and they wait for no lock, which the program might hold.  All signals are
 * blocked in both.
 *
 * All of the agent's memory lies in one reservation fenced by PROT_NONE pages, which the
 * supervisor doesn't manage.
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

/* How far the middleman has come; so what the program's thread may do next. */
enum agent_birth {
	BIRTH_UNKNOWN,	/* the middleman was killed at once */
	BIRTH_BEGUN,	/* no agent; a seccomp filter may forbid to reap the middleman */
	BIRTH_DONE,	/* the middleman can be reaped; there is an agent if there can be one */
	BIRTH_THREAD,	/* the middleman can be reaped; the agent has to be a thread */
};

/* One a program: written by the program's thread and, one after the other, the middleman
 * and the agent.  A fork's child has a copy, which it writes anew. */
struct agent {
	char name[ZD_AGENT_NAME];	/* of the abstract socket */
	struct zd_agent_hello hello;
	char *nowhere;		/* the end of a PROT_NONE page: a stack without room */
	char *stack, *middle_stack;
	struct zd_agent_ring *ring;
	int kind;		/* enum zd_agent_kind */
	bool thread;		/* the agent is a thread of the program, not a process */
	pid_t owner;		/* the program */
	unsigned long parent;	/* CLONE_PARENT: the agent is to be the supervisor's child, as
				 * the program is; or 0 */
	int pidfd;		/* the program's; -1: the agent is a thread */
	uint32_t birth;		/* enum agent_birth */
	bool refused;		/* the middleman could not make an agent: too many processes */
	uint32_t greeted;	/* a futex: the handshake is over */
};

extern struct agent agent;

/* agent.c: reserve the memory; @clear_tids: address of the program's struct
 * zd_agent_clear_tids.  0 or -errno. */
int agent_lay_out(uint64_t clear_tids);
/* birth.c: make an agent of agent.kind; returns when it is there, or can't be. */
void agent_birth(void);
/* prompt.c */
void agent_be_prompt(void);
/* handshake.c: the socket, with *uffd set; or -errno: the program runs unmanaged. */
int agent_handshake(int *uffd);
/* Tell the supervisor that there is no agent because of @error; 0: not yet. */
void agent_say_none(int error);
/* loop.c: the agent itself. */
int agent_main(void);
/* staging.c: 0, or -errno: staging is not empty, and nothing can be moved there. */
long agent_empty_staging(int uffd);
/* Do the ring's request.  @dirty: staging has to be emptied first. */
void agent_serve(int uffd, struct zd_agent_ring *ring, bool dirty);
/* confine.c: from here on only what agent_main()'s loop does.  0 or -errno. */
int agent_confine(int sock, int uffd);

#endif
