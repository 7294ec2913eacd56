/* SPDX-License-Identifier: MIT */
/*
 * Who holds a pagemap: a search through its descriptors for live ones.  Of a
 * range of terabytes most descriptors were never touched, and reading them
 * would commit page tables for them; mincore(2) says which are there.
 */
#include <string.h>
#include <sys/mman.h>

#include "core/percpu.h"
#include "core/vmemmap.h"

#define OS_PAGE		4096UL
#define PER_PAGE	(OS_PAGE / sizeof(struct zd_page))
#define CHUNK		1024U	/* pages of descriptors asked for at a time */

struct search {
	bool (*fn)(zd_pfn_t pfn, void *ctx);
	void *ctx;
};

static bool search_page(const struct search *s, zd_pfn_t pfn, zd_pfn_t end)
{
	for (; pfn < end; pfn++)
		if (zd_page_count(zd_pfn_to_page(pfn)) && !s->fn(pfn, s->ctx))
			return false;
	return true;
}

void zd_pagemap_for_each_live(const struct zd_pagemap *pgmap, bool (*fn)(zd_pfn_t pfn, void *ctx),
			      void *ctx)
{
	zd_pfn_t pfn = pgmap->pfn, end = pfn + pgmap->state->nr_pages;
	const struct search s = { fn, ctx };
	unsigned char there[CHUNK];

	while (pfn < end) {
		uint64_t pages = (end - pfn + PER_PAGE - 1) / PER_PAGE;

		if (pages > CHUNK)
			pages = CHUNK;
		/* Can't tell: look at all of them. */
		if (mincore(zd_pfn_to_page(pfn), pages * OS_PAGE, there))
			memset(there, 1, sizeof(there));
		for (uint64_t i = 0; i < pages; i++, pfn += PER_PAGE)
			if (there[i] & 1 &&
			    !search_page(&s, pfn, pfn + PER_PAGE < end ? pfn + PER_PAGE : end))
				return;
	}
}

static bool add_holder(zd_pfn_t pfn, void *ctx)
{
	struct zd_pagemap_holders *out = ctx;

	out->pfns[out->nr_pfns++] = pfn;
	return out->nr_pfns < ZD_PAGEMAP_HOLDER_PFNS && out->nr_pfns < out->nr_pages;
}

void zd_pagemap_holders(const struct zd_pagemap *pgmap, struct zd_pagemap_holders *out)
{
	int64_t refs;

	memset(out, 0, sizeof(*out));
	out->nr_pages = zd_pagemap_live_pages(pgmap);
	refs = zd_percpu_ref_read(&pgmap->state->ref) - (int64_t)out->nr_pages;
	out->nr_refs = refs < 0 ? 0 : (uint64_t)refs;
	if (out->nr_pages)
		zd_pagemap_for_each_live(pgmap, add_holder, out);
}
