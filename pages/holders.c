/* SPDX-License-Identifier: MIT */
/*
 * What holds a pagemap: a count of its live pages, and a search for them through its
 * descriptors.  Of a range of terabytes most descriptors were never touched, and reading them
 * would commit page tables for them; /proc/self/pagemap says which there are, in
 * memory or in swap.  (mincore(2) can't tell swapped-out pages from untouched ones.)
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/percpu.h"
#include "pages/holders.h"
#include "pages/pagemap.h"

#define OS_PAGE		4096UL
#define PER_PAGE	(OS_PAGE / sizeof(struct zd_page))
#define CHUNK		512U	/* pages of descriptors asked for at a time */

/* Of an entry of the pagemap. */
#define PRESENT		(UINT64_C(1) << 63)
#define SWAPPED		(UINT64_C(1) << 62)

struct search {
	zd_pfn_t first;		/* of those that are wanted */
	bool (*fn)(zd_pfn_t pfn, void *ctx);
	void *ctx;
};

static bool search_page(const struct search *s, zd_pfn_t pfn, zd_pfn_t end)
{
	for (pfn = pfn < s->first ? s->first : pfn; pfn < end; pfn++)
		if (zd_page_count(zd_pfn_to_page(pfn)) && !s->fn(pfn, s->ctx))
			return false;
	return true;
}

void zd_pagemap_for_each_live(const struct zd_pagemap *pgmap, bool (*fn)(zd_pfn_t pfn, void *ctx),
			      void *ctx)
{
	zd_pagemap_for_each_live_from(pgmap, pgmap->pfn, fn, ctx);
}

void zd_pagemap_for_each_live_from(const struct zd_pagemap *pgmap, zd_pfn_t first,
				   bool (*fn)(zd_pfn_t pfn, void *ctx), void *ctx)
{
	/* a pagemap begins with a page of descriptors */
	zd_pfn_t pfn = first - (first - pgmap->pfn) % PER_PAGE;
	zd_pfn_t end = pgmap->pfn + pgmap->priv->nr_pages;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	const struct search s = { first, fn, ctx };
	uint64_t there[CHUNK];
	bool more = true;

	while (more && pfn < end) {
		uint64_t pages = (end - pfn + PER_PAGE - 1) / PER_PAGE;
		off_t at = (uintptr_t)zd_pfn_to_page(pfn) / OS_PAGE * sizeof(there[0]);

		if (pages > CHUNK)
			pages = CHUNK;
		/* Where the kernel doesn't tell: look at all of them. */
		if (fd < 0 || pread(fd, there, pages * sizeof(there[0]), at) !=
				      (ssize_t)(pages * sizeof(there[0])))
			memset(there, 0xff, sizeof(there));
		for (uint64_t i = 0; i < pages && more; i++, pfn += PER_PAGE)
			if (there[i] & (PRESENT | SWAPPED))
				more = search_page(&s, pfn,
						   pfn + PER_PAGE < end ? pfn + PER_PAGE : end);
	}
	if (fd >= 0)
		close(fd);
}

uint64_t zd_pagemap_live_pages(const struct zd_pagemap *pgmap)
{
	const struct zd_pagemap_priv *s = pgmap->priv;
	int64_t n = s ? zd_percpu_sum(s->live, s->live_mask) : 0;

	/* Below zero: a page was freed on a CPU whose slot was read after that of its init. */
	return n < 0 ? 0 : (uint64_t)n;
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
	refs = zd_percpu_ref_read(&pgmap->priv->ref) - (int64_t)out->nr_pages;
	out->nr_refs = refs < 0 ? 0 : (uint64_t)refs;
	if (out->nr_pages)
		zd_pagemap_for_each_live(pgmap, add_holder, out);
}
