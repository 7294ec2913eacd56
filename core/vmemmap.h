/* SPDX-License-Identifier: MIT */
/* Internals shared by page.c and pagemap.c. */
#ifndef CORE_VMEMMAP_H
#define CORE_VMEMMAP_H

#include <stdbool.h>

#include <zonedev/pagemap.h>
#include <zonedev/percpu_ref.h>

#include "core/lock.h"

/*
 * struct zd_pagemap_state - a mapped pagemap, ours alone.
 *
 * Lives from zd_memremap_pages() to the end of the grace period in unmap.
 * @ref: one for each live page and each zd_get_dev_pagemap(), and the base.
 * @page_free, @revoke: from ops, NULL where the owner's are shorter.
 */
struct zd_pagemap_state {
	struct zd_percpu_ref ref;
	struct zd_pagemap *pgmap;
	uint64_t nr_pages;
	void (*page_free)(struct zd_page *page);
	int (*revoke)(struct zd_pagemap *pgmap);
	struct zd_percpu_slot *live;	/* pages: init'ed minus freed */
	uint32_t live_mask;
	uint32_t id;
	struct zd_completion released;
	bool killed;			/* revoked too; by whoever set @busy */
	bool busy;			/* an unmap is at work; under map_lock */
};

/* The held state of the pagemap around @pfn, or NULL. */
struct zd_pagemap_state *zd_pagemap_tryget(zd_pfn_t pfn);

/* By zd_page.pgmap_id, without ZD_PAGE_LIVE.  NULL: none. */
struct zd_pagemap_state *zd_pagemap_by_id(uint32_t id);

/* Who holds @pgmap, which the caller is unmapping. */
void zd_pagemap_holders(const struct zd_pagemap *pgmap, struct zd_pagemap_holders *out);

#endif
