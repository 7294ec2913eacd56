/* SPDX-License-Identifier: MIT */
/*
 * What protocols a to e share: a page that knows its zone, a device's pages that
 * count 1 while nobody uses them, and a pagemap with a per-CPU reference.
 *
 * LAB_PAGES_HOLD: each page holds the pagemap from its birth to its last put
 * (c, d, e).  Otherwise every reference to a page holds it (a, b).
 */
#ifndef LAB_KMODEL_H
#define LAB_KMODEL_H

#include <stdbool.h>
#include <stdint.h>

#include <zonedev/page.h>
#include <zonedev/percpu_ref.h>

/*
 * The same hints and the same place of the count for all protocols: zonedev/page.h's,
 * which says what the hint is worth.  LAB_AS_LINUX: unlikely() and a plain if, and the
 * count behind the flags, as Linux had them.
 */
#ifdef LAB_AS_LINUX
#define lab_unlikely(x)	__builtin_expect(!!(x), 0)
#define lab_last(x)	(x)
#else
#define lab_unlikely(x)	ZD_PAGE_RARELY_(!!(x))
#define lab_last(x)	ZD_PAGE_RARELY_(x)
#endif

enum lab_type { LAB_PMEM, LAB_PRIVATE };

struct lab_pagemap {
	struct zd_percpu_ref ref;
	enum lab_type type;
};

/* As long as the kernel's, so that two never share a cache line. */
typedef struct lab_page {
#ifndef LAB_AS_LINUX
	uint32_t count;
#endif
	uint64_t flags;		/* the zone is in the top bits */
#ifdef LAB_AS_LINUX
	uint32_t count;
#endif
	struct lab_pagemap *pgmap;
	unsigned int freed;
} __attribute__((aligned(64))) lab_page;

#define LAB_ZONE_SHIFT	61
#define LAB_ZONE_NORMAL	2ULL
#define LAB_ZONE_DEVICE	4ULL

/* The protocol's own: what a lookup takes of the page itself. */
static inline bool lab_lookup_page(lab_page *page);

static inline bool lab_is_device_page(const lab_page *page)
{
	return page->flags >> LAB_ZONE_SHIFT == LAB_ZONE_DEVICE;
}

static inline bool lab_is_private_page(const lab_page *page)
{
	return lab_is_device_page(page) && page->pgmap->type == LAB_PRIVATE;
}

static inline void lab_count_inc(lab_page *page)
{
	__atomic_add_fetch(&page->count, 1, __ATOMIC_RELAXED);
}

static inline bool lab_count_dec_and_test(lab_page *page)
{
	return __atomic_sub_fetch(&page->count, 1, __ATOMIC_ACQ_REL) == 0;
}

/* page_cache_get_speculative(): anything that isn't 0 may be taken. */
static inline bool lab_count_inc_not_zero(lab_page *page)
{
	uint32_t c = __atomic_load_n(&page->count, __ATOMIC_RELAXED);

	do {
		if (c == 0)
			return false;
	} while (!__atomic_compare_exchange_n(&page->count, &c, c + 1, true, __ATOMIC_ACQUIRE,
					      __ATOMIC_RELAXED));
	return true;
}

/* Out of line: kmodel.c. */
void lab_page_last_put(lab_page *page);		/* __put_page() */
void lab_get_device_page(lab_page *page);	/* get_zone_device_page() */
void lab_put_device_page(lab_page *page);	/* put_zone_device_page() */
void lab_put_private_page(lab_page *page);	/* d, e: the hook */
struct lab_pagemap *lab_find_pagemap(const lab_page *page);	/* get_dev_pagemap() */
void lab_put_pagemap(struct lab_pagemap *pgmap);

/*
 * get_user_pages_fast(), Linux's own and the generic one alike: a device page's pagemap
 * is looked up before the page is taken, and dropped after.  No page is taken of a
 * pagemap that has been killed.
 */
static inline bool lab_lookup(lab_page *page)
{
	struct lab_pagemap *pgmap;
	bool taken;

	if (!lab_is_device_page(page))
		return lab_lookup_page(page);
	pgmap = lab_find_pagemap(page);
	if (!pgmap)
		return false;
	taken = lab_lookup_page(page);
	lab_put_pagemap(pgmap);
	return taken;
}

#endif
