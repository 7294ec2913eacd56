/* SPDX-License-Identifier: MIT */
/* The table of mapped ranges, as pagemap.c changes it: under map_lock. */
#ifndef ZD_PAGES_PFN_RANGE_H
#define ZD_PAGES_PFN_RANGE_H

#include <stdbool.h>

#include <zonedev/pagemap.h>

struct zd_pagemap_state;

struct zd_pfn_range {
	zd_pfn_t first, end;	/* end: as reserved, rounded up */
	struct zd_pagemap_state *state;
};

/* Pfns for @nr_pages pages, to be inserted next: sets @r but its state.  -ENOSPC,
 * -ENOMEM. */
int zd_pfn_range_find(uint64_t nr_pages, struct zd_pfn_range *r);
/* Lookups find it from here on. */
void zd_pfn_range_insert(const struct zd_pfn_range *r);
/* They don't any more, and none is still looking at it.  Waits for a grace period.  Its pfns
 * are given to others after zd_pfn_range_clear(). */
void zd_pfn_range_remove(zd_pfn_t first);
/* The descriptors of the range that was removed last are zero again. */
void zd_pfn_range_clear(void);
/* Is @pgmap mapped?  By the pointer alone: of one that is gone, the memory may be, too. */
bool zd_pfn_range_has(const struct zd_pagemap *pgmap);

#endif
