/* SPDX-License-Identifier: MIT */
/*
 * What a driver may get wrong, and what then happens to the program's pages.
 *
 * A driver is code of somebody's (zonedev/driver.h), and some of its mistakes would cost data without
 * anybody noticing: a page that holds something, or is on its way to, is given out once more; a
 * batch is completed before its pages were copied, or once more when its memory is another
 * batch's.  These are looked for here.  Such a driver's tier is broken from then on: pages come home
 * from it, and none goes there.  That is said once.
 *
 * Invariants.  A device page that the engine has taken and that isn't live has ZD_PAGE_TAKEN, with
 * its pagemap's id, in pgmap_id; so a page that is given out a second time is seen, without a
 * table.  A page of a batch that the driver has left without an answer has the error -EINPROGRESS;
 * it is never given back to the driver, which may still be copying it.
 *
 * Context.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_DISTRUST_H
#define ZD_ENGINE_DISTRUST_H

#include "engine/mig.h"
#include "engine/server_types.h"

/*
 * zd_tier_alloc - ->alloc_pages of the tier's driver, checked.  A device is not full for pages that
 * have come home.  The pfns ascend, as the buffers of a batch's pages do: so pfns in a row have
 * buffers in a row (struct zd_io_page), whichever pages of the batch don't go.
 * Returns how many; -ENOSPC: none; -EIO: the driver fails, or its tier is broken.
 */
int zd_tier_alloc(struct zd_server *server, struct zd_tier *tier, unsigned int nr, zd_pfn_t *pfns);

/* zd_tier_unalloc - give back pages that zd_tier_alloc() has given, and that aren't live. */
void zd_tier_unalloc(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns);

/* zd_mig_submit - hand the first @nr of mig->io_page[] to @dev's driver, which calls @done. */
void zd_mig_submit(struct zd_mig *mig, struct zd_device *dev, enum zd_io_dir dir, unsigned int nr,
		   void (*done)(struct zd_device_io *io));

/* zd_mig_answered - first of all in @done: look at what the driver has answered.  A second
 * completion of the batch does no harm from here on. */
void zd_mig_answered(struct zd_mig *mig);

#endif
