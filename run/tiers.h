/* SPDX-License-Identifier: MIT */
/*
 * The devices of a run, fastest first, under the names by which the user knows them.
 *
 * The engine knows a device while it serves it (engine/tier.h); the run knows it from the command
 * line to the report, also when it has been taken away meanwhile (removal.h).
 */
#ifndef ZD_RUN_TIERS_H
#define ZD_RUN_TIERS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/server.h"
#include "engine/tier_removal.h"

struct run;

#define TIER_NAME	32	/* bytes of the longest name, with its final zero */

enum tier_state {
	TIER_USED,
	TIER_LEAVING,		/* its pages move elsewhere */
	TIER_CLOSING,		/* none of its pages is live; the driver lets go of the device */
	TIER_GONE,
};

/* Pages, ever: that came, that went home, that went to another tier, and that could not be
 * written or read. */
struct tier_counts {
	uint64_t in, home, left, errors;
};

/*
 * struct tier - @dev: NULL once it is a thread's to unregister (removal.h).  @name: the driver's; of a second one of the same
 * driver with -2.  @device: what the device calls itself ("file:/mnt/swap"), @size: in bytes; both
 * outlive the device, as @counts do, which tiers_count() brings up to date.
 */
struct tier {
	struct zd_device *dev;
	char name[TIER_NAME];
	char *device;
	uint64_t size;
	enum tier_state state;
	int error;			/* of the last removal, which was called off; or 0 */
	struct tier_counts counts;
	struct zd_tier_removal going;	/* while it is leaving */
};

/* tiers_add - @dev of @driver, which becomes the run's on success, is the next in order.  Before
 * the server runs.  0; -ENOSPC: there are as many as a run can have; -ENOMEM. */
int tiers_add(struct run *run, const char *driver, struct zd_device *dev);
/* tiers_attach - all of them, to the run's server.  0 or -errno. */
int tiers_attach(struct run *run);
/* tiers_close - unregister those that are left.  They belong to no server any more.  May block. */
void tiers_close(struct run *run);

/* All that follows: by the thread that serves. */

/* tier_named - by its name, or by what the device calls itself; NULL: there is none. */
struct tier *tier_named(struct run *run, const char *name);
/* tiers_count - what the server counts, of all tiers that it has. */
void tiers_count(struct run *run);
/* tiers_live - how many pages are on devices now. */
uint64_t tiers_live(const struct run *run);
/* tier_ram - bytes of RAM that the contents of its pages take.  tiers_ram - of all. */
uint64_t tier_ram(const struct tier *tier);
uint64_t tiers_ram(const struct run *run);

#endif
