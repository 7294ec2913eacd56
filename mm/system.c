/* SPDX-License-Identifier: MIT */
/* Descriptors of RAM pages; see system.h. */
#include <errno.h>

#include "core/alloc.h"
#include "core/bug.h"
#include "core/lock.h"
#include "mm/system.h"
#include "mm/table.h"
#include "zonedev/gup.h"
#include "zonedev/pagemap.h"

#define NR_PAGES	(UINT64_C(1) << 28)	/* 1 TiB of RAM; reserved, not committed */

struct zd_system {
	struct zd_pagemap pgmap;
	struct zd_mutex lock;	/* innermost; a few loads and stores */
	zd_pfn_t free;		/* linked through the descriptors' word */
	uint64_t fresh;		/* first index that was never used */
};

static void page_free(struct zd_page *page)
{
	struct zd_system *sys = zd_page_pagemap(page)->owner;

	zd_mutex_lock(&sys->lock);
	zd_page_set_private(page, sys->free);
	sys->free = zd_page_to_pfn(page);
	zd_mutex_unlock(&sys->lock);
}

static const struct zd_pagemap_ops system_ops = {
	.size = sizeof(system_ops),
	.page_free = page_free,
};

static int system_create(struct zd_mm *mm)
{
	struct zd_system *sys = zd_alloc(sizeof(*sys));
	int rc;

	if (!sys)
		return -ENOMEM;
	sys->pgmap.type = ZD_MEMORY_SYSTEM;
	sys->pgmap.ops = &system_ops;
	sys->pgmap.owner = sys;
	sys->pgmap.nr_pages = NR_PAGES;
	rc = zd_memremap_pages(&sys->pgmap);
	if (rc) {
		zd_free(sys);
		return rc;
	}
	mm->system = sys;
	return 0;
}

static zd_pfn_t take_pfn(struct zd_system *sys)
{
	zd_pfn_t pfn;

	zd_mutex_lock(&sys->lock);
	pfn = sys->free;
	if (pfn)
		sys->free = zd_page_private(zd_pfn_to_page(pfn));
	else if (sys->fresh < NR_PAGES)
		pfn = sys->pgmap.pfn + sys->fresh++;
	zd_mutex_unlock(&sys->lock);
	return pfn;
}

int zd_system_install(struct zd_mm *mm, uint64_t addr)
{
	zd_pfn_t pfn;
	int rc = mm->system ? 0 : system_create(mm);

	if (rc)
		return rc;
	pfn = take_pfn(mm->system);
	if (!pfn)
		return -ENOMEM;
	rc = zd_page_init(zd_pfn_to_page(pfn));
	if (rc)
		return rc;
	zd_pfn_to_page(pfn)->word = addr;
	/* release: who reads the pfn sees the count; pairs with the acquire in
	 * GUP's walk */
	zd_entry_store(zd_mm_entry(mm, addr), ZD_ENTRY_SYSTEM | pfn << ZD_ENTRY_VAL_SHIFT);
	return 0;
}

bool zd_system_release(zd_entry_t *entry)
{
	struct zd_page *page = zd_pfn_to_page(zd_entry_val(*entry));
	uint32_t mapped = 1;

	/* acquire and release: what holders did to the page is done, and no new
	 * holder comes; pairs with zd_try_get_page_refs() */
	if (!__atomic_compare_exchange_n(&page->refcount, &mapped, 0, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return false;
	zd_entry_store(entry, 0);
	__zd_put_page(page);
	return true;
}

void zd_system_drop(zd_entry_t *entry)
{
	struct zd_page *page = zd_pfn_to_page(zd_entry_val(*entry));

	zd_entry_store(entry, 0);
	zd_put_page(page);
}

uint64_t zd_system_release_all(struct zd_mm *mm)
{
	if (!mm->system)
		return 0;
	for (size_t i = 0; i < mm->ranges.nr; i++) {
		uint64_t end = mm->ranges.v[i].end;
		uint64_t addr = zd_table_next(&mm->table, mm->ranges.v[i].start, end);

		for (; addr < end; addr = zd_table_next(&mm->table, addr + ZD_PAGE_SIZE, end)) {
			zd_entry_t *entry = zd_mm_entry(mm, addr);

			if (zd_entry_state(*entry) == ZD_ENTRY_SYSTEM)
				zd_system_release(entry);
		}
	}
	/* those of entries that would not go, and those whose mapping is gone */
	return zd_pagemap_live_pages(&mm->system->pgmap);
}

void zd_system_destroy(struct zd_mm *mm)
{
	if (!mm->system)
		return;
	ZD_BUG_ON(zd_memunmap_pages(&mm->system->pgmap), "system pages of mm slot %u", mm->slot);
	zd_free(mm->system);
	mm->system = NULL;
}

void *zd_page_address(const struct zd_page *page)
{
	const struct zd_pagemap *pgmap = zd_page_pagemap(page);

	return pgmap && pgmap->type == ZD_MEMORY_SYSTEM ? (void *)(uintptr_t)page->word : NULL;
}
