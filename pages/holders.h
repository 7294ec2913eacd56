/* SPDX-License-Identifier: MIT */
/* The live pages of a pagemap, and the holds that a removal waits for. */
#ifndef ZD_PAGES_HOLDERS_H
#define ZD_PAGES_HOLDERS_H

#include <stdbool.h>

#include <zonedev/pagemap.h>

/* zd_pagemap_for_each_live - @fn for each live page of @pgmap, ascending, until it returns
 * false. */
void zd_pagemap_for_each_live(const struct zd_pagemap *pgmap, bool (*fn)(zd_pfn_t pfn, void *ctx),
			      void *ctx);

/* zd_pagemap_for_each_live_from - the same, for the pages from @first on. */
void zd_pagemap_for_each_live_from(const struct zd_pagemap *pgmap, zd_pfn_t first,
				   bool (*fn)(zd_pfn_t pfn, void *ctx), void *ctx);

/* zd_pagemap_holders - what holds @pgmap, which the caller is unmapping. */
void zd_pagemap_holders(const struct zd_pagemap *pgmap, struct zd_pagemap_holders *out);

#endif
