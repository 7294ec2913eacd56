/* SPDX-License-Identifier: MIT */
/*
 * The scout: a second thread of the supervisor, for what takes longer than a fault
 * may wait: reading /proc/PID/maps and smaps_rollup, looking at every thread.
 *
 * The server's thread asks for a survey (survey.h) with a copy of what is managed; the
 * scout makes it; the server's thread takes what was found, when the scout's descriptor says
 * that a survey has been made.  One lock guards the queue and the state of all surveys; it is
 * held for moves of pointers only.  The scout never touches the memory of a program in a way
 * that could wait for the server, so the server's thread can always join it.
 *
 * Context of all calls: the server's thread.  None blocks but scout_stop().  Where there is
 * no scout (@scout is NULL) nothing can be asked for, and nothing is ever made.
 */
#ifndef ZD_RUN_SCOUT_H
#define ZD_RUN_SCOUT_H

#include <stdbool.h>

#include "engine/server.h"
#include "run/survey.h"

struct scout;

/* @ready is called in the server's thread when surveys have been made. */
int scout_start(struct zd_server *server, void (*ready)(void *ctx), void *ctx,
		struct scout **scout);
/* Waits for the survey under way.  Surveys live on, and have to be asked for anew. */
void scout_stop(struct scout *scout);

/* -EBUSY: what was asked for last has not been taken yet.  -ENOMEM.  -ESRCH: no scout. */
int scout_ask(struct scout *scout, struct survey *survey, const struct zd_ranges *managed,
	      bool want_pss);
/* Is @survey waiting for the scout, or being made?  Then the scout may have the address
 * space open. */
bool scout_has(struct scout *scout, const struct survey *survey);
/* True: @survey has been made, and its findings are the caller's until the next
 * scout_ask(). */
bool scout_take(struct scout *scout, struct survey *survey);
/* Free @survey, which may be NULL; if it is being made, the scout does that afterwards. */
void scout_release(struct scout *scout, struct survey *survey);

#endif
