/* SPDX-License-Identifier: MIT */
/*
 * What the agent in a program and the supervisor say to each other.
 *
 * A socket (SEQPACKET) carries the greeting, one byte to start a request, and one byte
 * when the request is done; the socket's end is how each learns that the other died.
 * The request itself lies in a ring that both map: one request at a time.
 *
 * Another byte sends the agent away.  The supervisor sends it when the program has exec'ed
 * (only the agent still holds the old address space), or when the program exits: the
 * exiting thread says so by a fault on the farewell page.  The supervisor answers that
 * fault when the agent's socket has ended, that is when the agent no longer has the
 * address space.
 *
 * The window is a lock between UFFDIO_MOVE (agent) and the reading of events
 * (supervisor); engine/mover.h says why they exclude each other.  It is OPEN, MOVING or
 * READING, plus WAITED when the other side sleeps on it (a shared futex).
 */
#ifndef ZD_RUN_AGENT_AGENT_PROTO_H
#define ZD_RUN_AGENT_AGENT_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Staging, where the agent moves pages to: one huge page, aligned.  As the server's
 * (ZD_STAGING_SLOTS); mover_agent.c asserts that. */
#define ZD_AGENT_SLOTS		512
#define ZD_AGENT_STAGING_BYTES	(ZD_AGENT_SLOTS * 4096UL)

#define ZD_AGENT_MAGIC		0x7a6f6e65u
#define ZD_AGENT_VERSION	5
#define ZD_AGENT_TOKEN		32	/* hex digits */
#define ZD_AGENT_ENV		"ZONEDEV_SOCKET"	/* NAME:TOKEN:NAMESPACE, abstract socket; the
						 * inode of the supervisor's pid namespace */
#define ZD_AGENT_NAME		96	/* bytes of NAME, with a NUL */
#define ZD_AGENT_ENV_NO_CHILDREN	"ZONEDEV_NO_CHILDREN"
#define ZD_AGENT_ENV_OLD	"ZONEDEV_OLD_PRELOAD"	/* LD_PRELOAD as the starter had it */

/* The parts of @env, ZD_AGENT_ENV's value: NAME is [env, *token - 1).  False: @env has other
 * parts than these. */
static inline bool zd_agent_env_parts(const char *env, const char **token, const char **ns)
{
	size_t name = 0;

	while (env[name] && env[name] != ':')
		name++;
	*token = env + name + 1;
	for (size_t i = 0; env[name] && i < ZD_AGENT_TOKEN; i++)
		if (!(*token)[i] || (*token)[i] == ':')
			return false;
	*ns = *token + ZD_AGENT_TOKEN + 1;
	return env[name] && name < ZD_AGENT_NAME && (*ns)[-1] == ':';
}

enum zd_agent_kind {
	ZD_AGENT_FRESH = 1,	/* after exec: brings its own userfaultfd */
	ZD_AGENT_FORK,		/* after fork: the supervisor has it already */
	ZD_AGENT_NONE,		/* after exec: there can't be an agent, see error */
	ZD_AGENT_UNMANAGED,	/* before exec: what is exec'ed won't have an agent, see error */
};

/* Why not: the error of a hello of ZD_AGENT_UNMANAGED. */
enum zd_agent_unmanaged {
	ZD_UNMANAGED_STATIC = 1,
	ZD_UNMANAGED_SUID,
	ZD_UNMANAGED_32BIT,
	ZD_UNMANAGED_ENV,	/* the program's environment doesn't name the agent's library */
	ZD_UNMANAGED_HIDDEN,	/* the program doesn't see the library's file */
	ZD_UNMANAGED_LIBC,	/* the program is linked with another libc than glibc */
	ZD_UNMANAGED_REASONS
};

#define ZD_AGENT_CLEAR_TIDS	255

/* The words that the kernel clears when threads end that the program made by clone()
 * (CLONE_CHILD_CLEARTID): the last ZD_AGENT_CLEAR_TIDS of them. */
struct zd_agent_clear_tids {
	uint32_t nr;		/* how many there ever were; 0: no need to read the addresses */
	uint64_t addr[ZD_AGENT_CLEAR_TIDS];
};

struct zd_agent_hello {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
	char token[ZD_AGENT_TOKEN];
	uint64_t id;		/* FORK: read from the identity page */
	uint64_t lo, hi;	/* all of the agent's mappings lie in here */
	uint64_t staging;	/* ZD_AGENT_STAGING_BYTES, aligned to their size */
	uint64_t identity;	/* a missing page: reading it gives the id; the farewell page
				 * lies behind it */
	uint64_t clear_tids;	/* struct zd_agent_clear_tids */
	uint64_t pid_ns;	/* inode of the supervisor's pid namespace, from the environment */
	int32_t error;		/* FRESH: why there is no userfaultfd, 0: it is sent along;
				 * NONE: why there is no agent, 0: there isn't one yet;
				 * UNMANAGED: enum zd_agent_unmanaged */
};	/* descriptors: FRESH userfaultfd, ring; FORK ring; others, or with error: none; and behind
	 * them the program's pidfd if the agent is a process of its own, not a thread */

#define ZD_IDENTITY_BYTES	(2 * 4096UL)
#define ZD_FAREWELL		4096UL	/* behind the identity page */

#define ZD_AGENT_GO		'g'	/* move what the ring says */
#define ZD_AGENT_BYE		'q'	/* end */

enum zd_agent_answer {
	ZD_AGENT_WELCOME = 1,	/* FORK: with the userfaultfd.  FRESH: perhaps with the pidfd of
				 * the agent that the program had before its exec, now ending */
	ZD_AGENT_USE_DEV,	/* with /dev/userfaultfd: try that and say hello again */
	ZD_AGENT_ASK_AGAIN,	/* FORK: that id is another process's; drop the page, and read it
				 * anew */
	ZD_AGENT_GO_AWAY,	/* the program runs unmanaged; perhaps with a pidfd, as WELCOME */
	ZD_AGENT_QUIT,		/* end: the program has ended, or exec'ed */
};

struct zd_agent_reply {
	uint32_t answer;
	/* WELCOME, FRESH: the number of the keeper (guard/keeper.h) among the supervisor's
	 * descriptors, or -1.  A descriptor of an io_uring can't be sent; so a pidfd of the
	 * supervisor is sent, as the last, for pidfd_getfd(). */
	int32_t keeper;
};

#define ZD_WINDOW_OPEN		0u
#define ZD_WINDOW_MOVING	1u
#define ZD_WINDOW_READING	2u
#define ZD_WINDOW_WAITED	4u

struct zd_agent_run {
	uint64_t src;
	uint32_t slot;
	uint16_t nr;
	uint16_t unshare;	/* no other process maps these pages any more: the agent makes
				 * them the program's alone first (mover_agent.c says why) */
};

#define ZD_AGENT_PENDING	1	/* result of a page that was not tried yet */
#define ZD_AGENT_UNMARKED	2	/* result of a page that moved, and left no mark behind
					 * (space/uffd.h) */

struct zd_agent_ring {
	uint32_t window;
	uint32_t cancel;	/* set inside READING: move no more of this request */
	uint32_t fetched;	/* the supervisor has read what is in staging */
	uint32_t begun;		/* staging has nothing but what this request moves there */
	uint32_t nr_runs;
	struct zd_agent_run run[ZD_AGENT_SLOTS];
	int32_t result[ZD_AGENT_SLOTS];	/* by slot: PENDING, 0 (moved and marked),
					 * UNMARKED, or -errno: why the page stays */
};

#endif
