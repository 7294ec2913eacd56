/* SPDX-License-Identifier: MIT */
/*
 * The scout: a second thread of the supervisor, for what takes longer than a fault
 * may wait: reading /proc/PID/maps and smaps_rollup, looking at every thread.
 *
 * A survey is one look at one address space.  The server's thread asks for it, with
 * a copy of what is managed; the scout makes it; the server's thread takes what was
 * found, when the scout's descriptor says that there is something to take.  The lock
 * is held for moves of pointers only.  The scout never touches the memory of a
 * program in a way that could wait for the server, so it can always be joined.
 *
 * A thread ends while its memory can no longer be waited for: the kernel clears its
 * id (CLONE_CHILD_CLEARTID) and walks its list of robust mutexes, and gives up at the
 * first page that is away.  With glibc and musl the id lies beside the list's head,
 * which the kernel tells (get_robust_list).  So a survey finds the pages of each
 * thread that must be in RAM: those around the head, and those of the mutexes that the
 * thread holds; and what clone() was given (preload_clone.c).  They are kept.  A mapping
 * with a guard below and the one head that it has at its top is a thread's stack, and not
 * managed; all else that looks like one isn't.
 */
#ifndef ZD_RUN_SCOUT_H
#define ZD_RUN_SCOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "space/range.h"
#include "engine/server.h"

struct process;

/* A mapping, or a part of one, that should be managed and is not; and how far it could
 * reach by now: nothing else was mapped from @floor to @ceiling. */
struct found {
	uint64_t start, end, floor, ceiling;
};

struct survey {
	struct survey *next;		/* in the scout's queue */
	struct process *owner;		/* NULL: nobody's any more */
	pid_t pid;
	int maps_fd, rollup_fd, mem_fd, task_fd;
	uint64_t lo, hi;		/* zonedev's own mappings in there */
	uint64_t words;			/* struct zd_agent_clear_tids in there */
	bool want_pss;			/* asked for */
	/* of both, in turn: asked for, made, taken */
	enum { SURVEY_NONE, SURVEY_ASKED, SURVEY_MADE } state;
	struct zd_ranges managed;	/* when it was asked for */
	struct found *found;
	size_t nr_found, cap_found;
	uint64_t *kept;			/* pages, sorted */
	size_t nr_kept, cap_kept;
	uint64_t pss, anon;		/* pages; 0: not asked for */
	bool gone;			/* the address space is */
	uint64_t took_ns;		/* of the CPU */
	/* the scout's */
	uint64_t *heads;
	size_t nr_heads, cap_heads;
	struct zd_ranges growing;	/* pieces that wait, see may_grow() */
	uint64_t grows_max;		/* bytes */
};

struct scout;

/* @ready is called in the server's thread when surveys have been made. */
int scout_start(struct zd_server *server, void (*ready)(void *ctx), void *ctx,
		struct scout **scout);
/* Waits for the survey under way.  Surveys live on, and have to be asked for anew. */
void scout_stop(struct scout *scout);

/* Of process @pid, whose memory is seen through task @tid of @memory.  -errno: ended. */
int survey_new(pid_t pid, pid_t memory, pid_t tid, struct process *owner, struct survey **survey);
/* -EBUSY: the last one has not been taken yet.  -ENOMEM. */
int survey_ask(struct scout *scout, struct survey *survey, const struct zd_ranges *managed,
	       bool want_pss);
/* Is it waiting for the scout, or being made?  Then the scout may have the address space. */
bool survey_busy(struct scout *scout, const struct survey *survey);
/* True: it has been made, and its findings are the caller's until the next survey_ask(). */
bool survey_take(struct scout *scout, struct survey *survey);
void survey_free(struct scout *scout, struct survey *survey);

#endif
