/* SPDX-License-Identifier: MIT */
/*
 * Who holds a pagemap: the records of page_owner.c, for a program and for the log.
 *
 * Locks: each page's records are read with the lock of their bucket; so a report is a
 * snapshot page by page.
 */
#include <errno.h>
#include <stdbool.h>

#include <zonedev/log.h>

#include "base/sized.h"
#include "pages/holders.h"
#include "pages/page_owner.h"

#ifndef ZD_PAGE_OWNER

long zd_page_owner_report_sized(const struct zd_pagemap *pgmap, struct zd_page_owner *out,
				size_t max, size_t size)
{
	(void)pgmap;
	(void)out;
	(void)max;
	(void)size;
	return -EOPNOTSUPP;
}

#else

#define PIN_REFS	1024U	/* ZD_PIN_BIAS */
#define MAX_SITES	16U	/* lines in the log */

/* --- for a program --- */

struct report {
	char *out;
	size_t nr, max;
	size_t size;		/* of each, in the caller's eyes */
};

static void report_one(const struct zd_page_owner *one, void *ctx)
{
	struct report *rep = ctx;

	if (rep->nr < rep->max)
		zd_fill(rep->out + rep->nr * rep->size, rep->size, one, sizeof(*one));
	rep->nr++;
}

static bool report_page(zd_pfn_t pfn, void *ctx)
{
	zd_page_owner_for_each(pfn, false, report_one, ctx);
	return true;
}

/* May block.  Any thread. */
long zd_page_owner_report_sized(const struct zd_pagemap *pgmap, struct zd_page_owner *out,
				size_t max, size_t size)
{
	struct report rep = { (char *)out, 0, max, size };

	zd_page_owner_for_each(pgmap->pfn, true, report_one, &rep);
	zd_pagemap_for_each_live(pgmap, report_page, &rep);
	return rep.nr;
}

/* --- for the log: one line a site, since one line of code may hold a million pages --- */

struct tally {
	struct zd_page_owner first;
	uint64_t nr;
	bool uncertain;		/* some of these have been put, it can't be known which */
};

struct tallies {
	struct tally t[MAX_SITES];
	unsigned int nr;
	uint64_t others;	/* of sites for which there was no room */
};

static void tally_one(const struct zd_page_owner *one, void *ctx)
{
	struct tallies *all = ctx;
	struct tally *t;

	for (t = all->t; t < all->t + all->nr; t++)
		if (t->first.file == one->file && t->first.line == one->line)
			break;
	if (t == all->t + MAX_SITES) {
		all->others++;
		return;
	}
	if (t == all->t + all->nr) {
		t->first = *one;
		all->nr++;
	}
	t->nr++;
	t->uncertain |= one->gone > 0;
}

static bool tally_page(zd_pfn_t pfn, void *ctx)
{
	zd_page_owner_for_each(pfn, false, tally_one, ctx);
	return true;
}

/* May block.  By the thread that unmaps @pgmap. */
void __zd_page_owner_log(const struct zd_pagemap *pgmap)
{
	struct tallies all = { .nr = 0 };

	zd_page_owner_for_each(pgmap->pfn, true, tally_one, &all);
	zd_pagemap_for_each_live(pgmap, tally_page, &all);
	for (const struct tally *t = all.t; t < all.t + all.nr; t++) {
		const struct zd_page_owner *o = &t->first;

		zd_log(ZD_LOG_WARN, "  %s%llu %s taken at %s:%u, the first by thread %d: pfn %#llx",
		       t->uncertain ? "up to " : "", (unsigned long long)t->nr,
		       !o->refs		   ? "holds of the pagemap" :
		       o->refs >= PIN_REFS ? "pins" :
					     "references",
		       o->file, o->line, o->tid, (unsigned long long)o->pfn);
	}
	if (all.others)
		zd_log(ZD_LOG_WARN, "  and %llu elsewhere", (unsigned long long)all.others);
	if (!all.nr)
		zd_log(ZD_LOG_WARN, "  none of these was taken while page_owner was recording");
}

#endif
