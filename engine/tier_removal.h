/* SPDX-License-Identifier: MIT */
/*
 * A tier is removed while the program goes on.
 *
 * Mechanism.  Nothing new goes to the tier (tier->removing; in a program's own removal the
 * pagemap has been killed as well).  Every address space is walked: its pages of the tier go to
 * the next tiers below that have room, then to those above; and what no tier takes comes home.
 * A page that can't come home (the device can't read it, there is no memory for it) stays on the
 * device as it was, and calls the removal off.
 *
 * Context.  The server's thread, between two turns; no call blocks.
 */
#ifndef ZD_ENGINE_TIER_REMOVAL_H
#define ZD_ENGINE_TIER_REMOVAL_H

#include "engine/homing.h"

/* Zero the struct, set dev, step until DONE. */
struct zd_tier_removal {
	struct zd_device *dev;
	bool homes_only;	/* none of its pages may go to another tier */
	/* how far it is */
	struct zd_mm *mm;	/* whose pages are going */
	uint64_t pos;
	bool shifted;		/* @mm has been walked: what is left comes home */
	struct zd_homing homing;
};

/*
 * One step.  DONE with *rc 0: no entry is of the device any more, no batch is on its way to or
 * from it; when none of its pages is held, either, the device may be detached.  DONE with *rc
 * -ENOMEM or -EIO: called off, and evictions go there again.  (*rc is 0, too, when @dev is no tier
 * of the server.)
 */
enum zd_cmd_result zd_tier_removal_step(struct zd_server *server, struct zd_tier_removal *r,
					int *rc);
/* Give up before the end: evictions go to the tier again. */
void zd_tier_removal_cancel(struct zd_server *server, struct zd_tier_removal *r);

#endif
