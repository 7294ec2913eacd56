/* SPDX-License-Identifier: MIT */
/* The mapped pagemaps, by pfn and by id: lookups, and changes by pagemap.c. */
#ifndef ZD_PAGES_PFN_RANGE_H
#define ZD_PAGES_PFN_RANGE_H

#include <stdbool.h>

#include <zonedev/pagemap.h>

struct zd_pagemap_priv;

/* --- lookups: any thread, also in a signal handler --- */

/* zd_pagemap_tryget - the pagemap around @pfn, held by its ref; NULL: none, or it is being
 * unmapped.  zd_pagemap_tryget_dying: also one that is being unmapped, as long as something
 * else holds it. */
struct zd_pagemap_priv *zd_pagemap_tryget(zd_pfn_t pfn);
struct zd_pagemap_priv *zd_pagemap_tryget_dying(zd_pfn_t pfn);

/* zd_pagemap_by_id - by zd_page.pgmap_id, without its flags.  Good while a page of the pagemap
 * is held.  NULL: none. */
struct zd_pagemap_priv *zd_pagemap_by_id(uint32_t id);

/* --- changes: with pagemap.c's map_lock --- */

struct zd_pfn_range {
	zd_pfn_t first, end;	/* end: as reserved, rounded up */
	struct zd_pagemap_priv *priv;
};

/* zd_pfn_range_find - pfns for @nr_pages pages and an id for @r->priv, which are to be
 * inserted next: sets the rest of @r and @r->priv->id.  0; -ENOSPC, -ENOMEM. */
int zd_pfn_range_find(uint64_t nr_pages, struct zd_pfn_range *r);

/* zd_pfn_range_insert - lookups find it from here on. */
void zd_pfn_range_insert(const struct zd_pfn_range *r);

/* zd_pfn_range_remove - lookups don't find the range at @first any more, and none is still
 * looking at it: waits for a grace period.  The range's pfns are given out again after
 * zd_pfn_range_clear(). */
void zd_pfn_range_remove(zd_pfn_t first);

/* zd_pfn_range_clear - the descriptors of the range that was removed last are zero again. */
void zd_pfn_range_clear(void);

/* zd_pfn_range_has - whether @pgmap is mapped.  Compares the pointer alone: the memory of a
 * pagemap that is gone may be gone, too. */
bool zd_pfn_range_has(const struct zd_pagemap *pgmap);

#endif
