/* SPDX-License-Identifier: MIT */
/* Out: program memory to the device.  The server's thread; no call blocks. */
#ifndef ZD_ENGINE_OUT_H
#define ZD_ENGINE_OUT_H

#include "engine/mig.h"

/*
 * Out: try to take @nr pages (in managed ranges, entries NONE or PRESENT, not
 * locked) of @mm out.  How many it was tried for (the first ones; their batch may
 * have landed already), or -errno and nothing happened:
 * -EBUSY: the mover is at work, or there is none; -ENOSPC: the device is full; -EIO: its driver fails;
 * -ENODEV: it is being removed; -ENOMEM.
 *
 * @dev: one of the server's; as many pages are taken as it has room for.
 * @pass_on: what @dev has no room for, or doesn't take later, goes to the next tier; @dev must
 *	have room for one page.
 * @fetched: called instead of storing the contents, and no device pages are taken: when the contents are in the batch's
 *	buffer; steps are MOVING for those pages, and the caller sets pfn and step
 *	and calls zd_out_land().
 * @landed: called just before the batch is freed.
 */
struct zd_out_want {
	struct zd_device *dev;
	bool pass_on;
	void (*fetched)(struct zd_mig *mig);
	void (*landed)(struct zd_mig *mig);
	void *data;
};
int zd_out_start(struct zd_mm *mm, const uint64_t *addrs, unsigned int nr,
		 const struct zd_out_want *want);
/* From the mover: every page has its final error.  Also when the mover died with its process
 * (mig->mm is NULL then): the pages that it had moved are lost. */
void zd_out_moved(struct zd_mig *mig);
/*
 * Read the pages that have been moved so far.  A child that is forked now shares these
 * pages, and the parent may end, and staging with it, before the batch has landed.
 * Between read_begin and read_end, before the fork's event is read: until then the parent
 * waits.
 */
void zd_out_prefetch(struct zd_mig *mig);

#endif
