/* SPDX-License-Identifier: MIT */
/*
 * The two ends of a page's life; what lies between is inline in zonedev/page.h.
 *
 * Invariants:
 *  1. A live page (count > 0, ZD_PAGE_LIVE set) holds its pagemap: from before
 *     the count leaves 0 until after page_free has returned.
 *  2. Only who took the count to 0, or was given the free page, writes
 *     pgmap_id and word.
 *
 * Ordering.  zd_page_init() sets the other fields, then releases the count 1;
 * zd_try_get_page() acquires.  Each put releases and the last acquires, so
 * page_free sees all that any holder did.
 *
 * ZD_PAGE_LIVE catches what the count alone doesn't: a get of a free page
 * followed by a put comes here a second time.
 */
#include <errno.h>

#include <zonedev/log.h>

#include "core/bug.h"
#include "core/lock.h"
#include "core/page_owner.h"
#include "core/percpu.h"
#include "core/trace.h"
#include "core/vmemmap.h"

#define ID_MASK	(~(ZD_PAGE_LIVE | ZD_PAGE_FOLIO))

#define PAGE_FMT "pfn %#llx count %d pagemap %u%s word %#llx"
#define PAGE_ARGS(p) (unsigned long long)zd_page_to_pfn(p), (int)zd_page_count(p),	\
	(p)->pgmap_id & ID_MASK, (p)->pgmap_id & ZD_PAGE_LIVE ? " live" : "",	\
	(unsigned long long)(p)->word

void __zd_page_bug(const struct zd_page *page, const char *what)
{
	zd_bug(__FILE__, __LINE__, what, PAGE_FMT, PAGE_ARGS(page));
}

/* In parentheses, here and elsewhere: with ZD_PAGE_OWNER it is a macro, too. */
/* Another thread is at the same pages: let it get ahead, rather than lose the line to
 * each other at every step. */
void __zd_page_contended(void)
{
	for (int i = 0; i < 32; i++)
		zd_cpu_relax();
}

int (zd_page_init)(struct zd_page *page)
{
	struct zd_pagemap_state *s;
	uint32_t free = 0;

	ZD_BUG_ON(zd_page_count(page) != 0 || page->pgmap_id & ZD_PAGE_LIVE,
		  "init of a page that isn't free: " PAGE_FMT, PAGE_ARGS(page));
	s = zd_pagemap_tryget(zd_page_to_pfn(page));
	if (!s)
		return -ENODEV;
	zd_percpu_add(s->live, s->live_mask, 1);
	page->pgmap_id = s->id | ZD_PAGE_LIVE;
	page->word = 0;
	/* Release: pairs with the acquire in zd_try_get_page(). */
	ZD_BUG_ON(!__atomic_compare_exchange_n(&page->refcount, &free, 1, false,
					       __ATOMIC_RELEASE, __ATOMIC_RELAXED),
		  "page used while it was being initialised: " PAGE_FMT, PAGE_ARGS(page));
	return 0;
}

ZD_TLS unsigned int zd_in_page_free;

void __zd_put_page(struct zd_page *page)
{
	struct zd_pagemap_state *s = zd_pagemap_by_id(page->pgmap_id & ID_MASK);

	ZD_BUG_ON(!s || !(page->pgmap_id & ZD_PAGE_LIVE),
		  "last put of a page that isn't live: " PAGE_FMT, PAGE_ARGS(page));
	ZD_PROBE2(page_ref_free, zd_page_to_pfn(page), s->id);
	ZD_PAGE_OWNER_TELL(freed, zd_page_to_pfn(page));
	page->pgmap_id = s->id;
	page->word = 0;
	if (s->page_free) {
		zd_in_page_free++;
		s->page_free(page);
		zd_in_page_free--;
	}
	/* @page may be live again, somebody else's. */
	zd_percpu_add(s->live, s->live_mask, -1);
	zd_percpu_ref_put(&s->ref);
}

struct zd_pagemap *zd_page_pagemap(const struct zd_page *page)
{
	struct zd_pagemap_state *s = zd_pagemap_by_id(page->pgmap_id & ID_MASK);

	return s ? s->pgmap : NULL;
}
