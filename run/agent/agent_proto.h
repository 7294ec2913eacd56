/* SPDX-License-Identifier: MIT */
/*
 * What the agent in a program and the supervisor say to each other.
 *
 * A socket (SEQPACKET) carries the greeting and one byte to start a request,
 * one byte when it is done; its end is how each learns that the other died.
 * The request itself lies in a ring that both map: one request at a time.
 * Another byte sends the agent away: when the program has exec'ed (only the
 * agent still keeps the old address space), or exits, which it says by a fault
 * on the farewell page; this is answered when the agent's socket has ended, that
 * is when the agent no longer has the address space.
 *
 * The window is a lock between UFFDIO_MOVE (agent) and the reading of events
 * (supervisor), see engine/mover.h: OPEN, MOVING or READING, plus WAITED when the
 * other side sleeps on it (a shared futex).
 */
#ifndef ZD_RUN_AGENT_AGENT_PROTO_H
#define ZD_RUN_AGENT_AGENT_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "engine/mover.h"

#define ZD_AGENT_MAGIC		0x7a6f6e65u
#define ZD_AGENT_VERSION	5
#define ZD_AGENT_TOKEN		32	/* hex digits */
#define ZD_AGENT_ENV		"ZONEDEV_SOCKET"	/* NAME:TOKEN:NAMESPACE, abstract socket; the
						 * inode of the supervisor's pid namespace */
#define ZD_AGENT_NAME		96	/* bytes of NAME, with a NUL */
#define ZD_AGENT_ENV_ALONE	"ZONEDEV_NO_CHILDREN"
#define ZD_AGENT_ENV_OLD	"ZONEDEV_OLD_PRELOAD"	/* LD_PRELOAD as the starter had it */

/* NAME is [env, *token - 1).  False: it isn't such a value. */
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

/* Why, in the error of such a hello. */
enum zd_agent_unmanaged {
	ZD_UNMANAGED_STATIC = 1,
	ZD_UNMANAGED_SUID,
	ZD_UNMANAGED_32BIT,
	ZD_UNMANAGED_ENV,	/* its environment doesn't name the agent */
	ZD_UNMANAGED_HIDDEN,	/* it doesn't see the agent's file */
	ZD_UNMANAGED_LIBC,	/* it is linked with another libc than glibc */
	ZD_UNMANAGED_REASONS
};

#define ZD_AGENT_WORDS	255

/* Words that the kernel clears when threads end that were made by clone(): the last ones. */
struct zd_agent_words {
	uint32_t nr;		/* ever; 0: none, and no need to look at them */
	uint64_t addr[ZD_AGENT_WORDS];
};

struct zd_agent_hello {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
	char token[ZD_AGENT_TOKEN];
	uint64_t id;		/* FORK: read from the identity page */
	uint64_t lo, hi;	/* all of the agent's mappings lie in here */
	uint64_t staging;	/* ZD_STAGING_BYTES, aligned to their size */
	uint64_t identity;	/* a missing page: reading it gives the id; and the farewell */
	uint64_t words;		/* struct zd_agent_words */
	uint64_t pid_ns;	/* inode of the supervisor's, from the environment */
	int32_t error;		/* FRESH: why there is no userfaultfd; NONE: no agent, 0: not yet;
				 * UNMANAGED: why */
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
	ZD_AGENT_ASK_AGAIN,	/* FORK: that id is another's; drop the page, read it anew */
	ZD_AGENT_GO_AWAY,	/* run unmanaged; with a pidfd as above */
	ZD_AGENT_QUIT,		/* end: the program has ended, or exec'ed */
};

struct zd_agent_reply {
	uint32_t answer;
	/* WELCOME, FRESH: the supervisor's descriptor of the keeper (guard/keeper.h), or -1.
	 * One of an io_uring can't be sent: a pidfd of the supervisor is, as the last. */
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
	uint16_t unshare;	/* no other process has them any more: see agent_link.c */
};

#define ZD_AGENT_PENDING	1	/* result of a page that was not tried yet */
#define ZD_AGENT_UNMARKED	2	/* it moved, and left no mark (space/uffd.h) */

struct zd_agent_ring {
	uint32_t window;
	uint32_t cancel;	/* set inside READING: move no more of this request */
	uint32_t fetched;	/* the staged content has been read */
	uint32_t begun;		/* staging is empty but for what this request moves there */
	uint32_t nr_runs;
	struct zd_agent_run run[ZD_STAGING_SLOTS];
	int32_t result[ZD_STAGING_SLOTS];	/* by slot: PENDING, 0 (moved and
						 * marked), UNMARKED, or why it stays */
};

#endif
