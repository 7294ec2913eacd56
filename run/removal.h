/* SPDX-License-Identifier: MIT */
/*
 * A device is taken away from a run that goes on: its pages move to other devices or home, then
 * its driver lets go of it.
 *
 * The moves are steps between two polls of the server.  To unregister the device may block (its
 * driver closes a connection, say), so a thread does that.
 */
#ifndef ZD_RUN_REMOVAL_H
#define ZD_RUN_REMOVAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/loop.h"

struct run;
struct tier;
struct zd_device;

/* The thread that unregisters a device; one at a time.  @dev is the thread's. */
struct removal {
	struct tier *tier;		/* NULL: there is no thread */
	struct zd_device *dev;
	pthread_t thread;
	struct zd_source done;		/* an eventfd */
};

/* All by the thread that serves. */

/* removal_start - @tier, which is used, is to go. */
void removal_start(struct run *run, struct tier *tier);
/* removal_step - some moves.  True: there is more to do at once. */
bool removal_step(struct run *run);
/* removal_is_active - is any tier leaving? */
bool removal_is_active(const struct run *run);
/* removal_has_thread - then this process can't be forked. */
bool removal_has_thread(const struct run *run);
/* removal_stop - wait for the thread, if there is one.  May block. */
void removal_stop(struct run *run);

/* removal_describe - what is still on @tier, and whose: "312 pages of pid 4711". */
void removal_describe(const struct run *run, const struct tier *tier, char *text, size_t len);

#endif
