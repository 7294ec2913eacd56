/* SPDX-License-Identifier: MIT */
/*
 * A survey: one look at one address space, through /proc.
 *
 * It finds two things: the mappings that should be managed and are not (survey_maps.c), and
 * the pages that must stay in RAM because threads may end (survey_threads.c).  survey.c calls
 * these two; they share struct survey, and so this header, with it.
 *
 * A survey belongs to the server's thread, except from scout_ask() to scout_take(): then it
 * is the scout's (scout.h).  The files that it reads are opened once, by survey_new().
 */
#ifndef ZD_RUN_SURVEY_H
#define ZD_RUN_SURVEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "space/range.h"

/* A mapping, or a part of one, that should be managed and is not; and how far it could
 * have grown by now: nothing else was mapped from @floor to @ceiling. */
struct found {
	uint64_t start, end, floor, ceiling;
};

/* A piece that may still grow is smaller than this part of its neighbour, and of the limit. */
#define SURVEY_GROWS_SHARE	16

/* What is looked at. */
struct survey_target {
	pid_t pid;
	pid_t memory, tid;	/* the address space is seen through task @tid of @memory */
	uint64_t lo, hi;	/* zonedev's own mappings in there */
	uint64_t clear_tids;	/* address of struct zd_agent_clear_tids in there */
	uint64_t grows_max;	/* bytes; a larger mapping is never waited for, see may_grow() */
};

struct survey {
	/* scout.c */
	struct survey *next;		/* in the scout's queue */
	enum { SURVEY_IDLE, SURVEY_ASKED, SURVEY_MADE } state;
	bool abandoned;			/* released while it was being made: the scout frees it */

	struct survey_target of;
	int maps_fd, rollup_fd, mem_fd, task_fd;

	/* asked for */
	struct zd_ranges managed;	/* at that time */
	bool want_pss;

	/* found */
	struct found *found;
	size_t nr_found, cap_found;
	uint64_t *unevictable;		/* addresses of pages that must stay in RAM, sorted */
	size_t nr_unevictable, cap_unevictable;
	uint64_t pss, anon;		/* pages; 0: not asked for */
	bool gone;			/* there is no address space any more */
	uint64_t took_ns;		/* CPU time of the scout's thread */

	/* between its parts, and from one survey to the next */
	uint64_t *heads;		/* of the threads' lists of robust mutexes, sorted */
	size_t nr_heads, cap_heads;
	struct zd_ranges growing;	/* pieces that wait, see may_grow() */
};

/* survey_new - open what a survey reads.  0 or -errno: the process has ended, no memory, or
 * no descriptors. */
int survey_new(const struct survey_target *of, struct survey **survey);
void survey_free(struct survey *s);

/*
 * survey_make - look.
 *
 * Context: the scout's thread.  Waits for the kernel's locks of the process, but never for
 * the server: memory of the process is only read in ways that fail for a page that is away.
 */
void survey_make(struct survey *s);

/* The parts of survey_make(), in this order: the second needs the heads of the first. */
void survey_threads(struct survey *s);
/* False: there is no address space any more. */
bool survey_maps(struct survey *s);

#endif
