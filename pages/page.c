/* SPDX-License-Identifier: MIT */
/*
 * The two ends of a page's life; what lies between is inline in zonedev/page.h.
 *
 * Invariants:
 *  1. A live page (count > 0, ZD_PAGE_LIVE set) holds its pagemap: from before
 *     the count leaves 0 until after page_free has returned.
 *  2. Only the thread that took the count to 0, or that was given the free page,
 *     writes pgmap_id and word.
 *
 * Ordering.  zd_page_init() sets the other fields, then releases the count 1;
 * zd_try_get_page() acquires.  Each put releases and the last acquires, so
 * page_free sees all that any holder did.
 *
 * Wrong counts.  The last put's branch is taken for every count that was one, or less.
 * ZD_PAGE_LIVE then tells a page whose holders can't be known any more (the page is
 * saturated, and lost) from a free page, whose count goes back to zero; and the flag catches
 * a get of a free page that is followed by a put, which would free the page again.
 */
#include <errno.h>

#include <zonedev/log.h>

#include "base/lock.h"
#include "pages/page_owner.h"
#include "base/percpu.h"
#include "base/trace.h"
#include "pages/page.h"
#include "pages/pagemap.h"
#include "pages/pfn_range.h"

#define ID_MASK	(~(ZD_PAGE_LIVE | ZD_PAGE_FOLIO | ZD_PAGE_TAKEN))

#define PAGE_FMT "pfn %#llx count %d pagemap %u%s word %#llx"
#define PAGE_ARGS(p) (unsigned long long)zd_page_to_pfn(p), (int)zd_page_count(p),	\
	(p)->pgmap_id & ID_MASK, (p)->pgmap_id & ZD_PAGE_LIVE ? " live" : "",	\
	(unsigned long long)(p)->word

bool __zd_page_refuse(const struct zd_page *page, const char *what)
{
	zd_warn_once("%s: not right: " PAGE_FMT, what, PAGE_ARGS(page));
	return false;
}

/* Another thread changes the same count: let that thread get ahead, rather than take the
 * cache line from each other at every step.  Any context. */
void __zd_page_contended(void)
{
	for (int i = 0; i < 32; i++)
		zd_cpu_relax();
}

/* The name in parentheses, here and elsewhere: with ZD_PAGE_OWNER it is a macro, too.
 * Any thread; doesn't block. */
int (zd_page_init)(struct zd_page *page)
{
	struct zd_pagemap_priv *p = zd_pagemap_tryget(zd_page_to_pfn(page));
	uint32_t free = 0;

	if (!p)
		return -ENODEV;
	if (zd_page_count(page) || page->pgmap_id & ZD_PAGE_LIVE)
		goto err_put;
	zd_percpu_add(p->live, p->live_mask, 1);
	page->pgmap_id = p->id | ZD_PAGE_LIVE;
	page->word = 0;
	/* Release: pairs with the acquire in zd_try_get_page(). */
	if (!__atomic_compare_exchange_n(&page->refcount, &free, 1, false, __ATOMIC_RELEASE,
					 __ATOMIC_RELAXED))
		goto err_live;
	return 0;

err_live:
	page->pgmap_id = p->id;
	zd_percpu_add(p->live, p->live_mask, -1);
err_put:
	zd_percpu_ref_put(&p->ref);
	zd_warn_once("zd_page_init: the page isn't free: " PAGE_FMT, PAGE_ARGS(page));
	return -EBUSY;
}

ZD_TLS unsigned int zd_in_page_free;

/* After a put that found no last reference: warn, and bring the count to where it does no
 * harm.  Any thread; doesn't block. */
static void wrong_count(struct zd_page *page)
{
	bool live = page->pgmap_id & ZD_PAGE_LIVE;
	uint32_t c = zd_page_count(page);

	zd_warn_once("a reference too many was put, or 2^31 were taken; %s: " PAGE_FMT,
		     live ? "the page is never freed" : "it stays free", PAGE_ARGS(page));
	/* A live page also where its count looks right now: the put of the last reference that
	 * zd_get_page() took too many has brought it back from above 2^31. */
	while (c && (live || (int32_t)c < 0) &&
	       !__atomic_compare_exchange_n(&page->refcount, &c, live ? ZD_PAGE_SATURATED : 0, true,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* The last put, in the thread that made it; with what locks that thread has.  Calls page_free. */
void __zd_put_page(struct zd_page *page)
{
	struct zd_pagemap_priv *p = zd_pagemap_by_id(page->pgmap_id & ID_MASK);

	if (!p || !(page->pgmap_id & ZD_PAGE_LIVE) || zd_page_count(page)) {
		wrong_count(page);
		return;
	}
	ZD_PROBE2(page_ref_free, zd_page_to_pfn(page), p->id);
	ZD_PAGE_OWNER_TELL(freed, zd_page_to_pfn(page));
	page->pgmap_id = p->id;
	page->word = 0;
	if (p->page_free) {
		zd_in_page_free++;
		p->page_free(page);
		zd_in_page_free--;
	}
	/* @page may be live again, as another holder's. */
	zd_percpu_add(p->live, p->live_mask, -1);
	zd_percpu_ref_put(&p->ref);
}

struct zd_pagemap *zd_page_pagemap(const struct zd_page *page)
{
	struct zd_pagemap_priv *p = zd_pagemap_by_id(page->pgmap_id & ID_MASK);

	return p ? p->pgmap : NULL;
}
