/* SPDX-License-Identifier: MIT */
/* Descriptors of RAM pages; see ram_page.h. */
#include <errno.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/lock.h"
#include "base/time.h"
#include "engine/ram_page.h"
#include "space/table.h"
#include "zonedev/gup.h"
#include "zonedev/pagemap.h"

#define NR_PAGES	(UINT64_C(1) << 28)	/* 1 TiB of RAM; reserved, not committed */

struct zd_ram_pages {
	struct zd_pagemap pgmap;
	struct zd_mm *mm;
	struct zd_mutex lock;	/* innermost; a few loads and stores */
	zd_pfn_t free;		/* linked through the descriptors' word */
	zd_pfn_t free_folio;	/* so are these, by the folio's own */
	uint64_t fresh;		/* first index that was never used */
	zd_pfn_t folios;	/* pfns from here up are folios' */
};

static void push(struct zd_ram_pages *pool, zd_pfn_t *list, struct zd_page *page)
{
	zd_mutex_lock(&pool->lock);
	zd_page_set_private(page, *list);
	*list = zd_page_to_pfn(page);
	zd_mutex_unlock(&pool->lock);
}

/* Under pool->lock. */
static zd_pfn_t pop(zd_pfn_t *list)
{
	zd_pfn_t pfn = *list;

	if (pfn)
		*list = zd_page_private(zd_pfn_to_page(pfn));
	return pfn;
}

static struct zd_page *folio_page(struct zd_page *folio, unsigned int i)
{
	return folio - ZD_FOLIO_PAGES + i;
}

/* The folio isn't mapped or pinned any more: put the reference that it has to each of its
 * pages, which live on while gets of their own hold them.  Any thread. */
static void folio_free(struct zd_page *folio)
{
	for (unsigned int i = 0; i < ZD_FOLIO_PAGES; i++) {
		struct zd_page *page = folio_page(folio, i);

		if (zd_page_count(page))
			zd_put_page(page);
		else
			__zd_put_page(page);	/* frozen by release_folio() */
	}
}

/* The word of a free folio counts its free pages.  Acquire and release: the thread that
 * counts to 512 gives the whole folio away, so it must see what other threads did to their
 * pages before.  Any thread. */
static void folio_page_free(struct zd_ram_pages *pool, struct zd_page *page)
{
	struct zd_page *folio = zd_page_folio_(page);

	if (__atomic_add_fetch(&folio->word, 1, __ATOMIC_ACQ_REL) == ZD_FOLIO_PAGES)
		push(pool, &pool->free_folio, folio);
}

static void page_free(struct zd_page *page)
{
	struct zd_ram_pages *pool = zd_page_pagemap(page)->owner;
	zd_pfn_t pfn = zd_page_to_pfn(page);

	/* pool->folios only goes down, and not to a pfn that is in use */
	if (pfn < __atomic_load_n(&pool->folios, __ATOMIC_RELAXED))
		push(pool, &pool->free, page);
	else if (pfn % ZD_FOLIO_BLOCK == ZD_FOLIO_PAGES)
		folio_free(page);
	else
		folio_page_free(pool, page);
}

static const struct zd_pagemap_ops ram_page_ops = {
	.size = sizeof(ram_page_ops),
	.page_free = page_free,
};

static int ram_pages_create(struct zd_mm *mm)
{
	struct zd_ram_pages *pool = zd_alloc(sizeof(*pool));
	int rc;

	if (!pool)
		return -ENOMEM;
	pool->pgmap.type = ZD_MEMORY_SYSTEM;
	pool->pgmap.ops = &ram_page_ops;
	pool->pgmap.owner = pool;
	pool->pgmap.nr_pages = NR_PAGES;
	rc = zd_memremap_pages(&pool->pgmap);
	if (rc) {
		zd_free(pool);
		return rc;
	}
	pool->mm = mm;
	pool->folios = (pool->pgmap.pfn + NR_PAGES) / ZD_FOLIO_BLOCK * ZD_FOLIO_BLOCK;
	mm->ram_pages = pool;
	return 0;
}

static zd_pfn_t take_pfn(struct zd_ram_pages *pool)
{
	zd_pfn_t pfn;

	zd_mutex_lock(&pool->lock);
	pfn = pop(&pool->free);
	if (!pfn && pool->pgmap.pfn + pool->fresh < pool->folios)
		pfn = pool->pgmap.pfn + pool->fresh++;
	zd_mutex_unlock(&pool->lock);
	return pfn;
}

/* A folio that is free, with its pages; NULL: no more room. */
static struct zd_page *take_folio(struct zd_ram_pages *pool)
{
	zd_pfn_t pfn;

	zd_mutex_lock(&pool->lock);
	pfn = pop(&pool->free_folio);
	if (!pfn && pool->folios - ZD_FOLIO_BLOCK >= pool->pgmap.pfn + pool->fresh) {
		pfn = pool->folios - ZD_FOLIO_BLOCK;
		/* relaxed: a thread that frees one of these pages was given it after this */
		__atomic_store_n(&pool->folios, pfn, __ATOMIC_RELAXED);
		pfn += ZD_FOLIO_PAGES;
	}
	zd_mutex_unlock(&pool->lock);
	return pfn ? zd_pfn_to_page(pfn) : NULL;
}

/* The server's thread; doesn't block. */
int zd_ram_page_install(struct zd_mm *mm, uint64_t addr)
{
	zd_entry_t *entry = zd_mm_entry(mm, addr), flags = 0;
	zd_pfn_t pfn;
	int rc = mm->ram_pages ? 0 : ram_pages_create(mm);

	if (rc)
		return rc;
	pfn = take_pfn(mm->ram_pages);
	if (!pfn)
		return -ENOMEM;
	rc = zd_page_init(zd_pfn_to_page(pfn));
	if (rc) {		/* the descriptor is still free */
		push(mm->ram_pages, &mm->ram_pages->free, zd_pfn_to_page(pfn));
		return rc;
	}
	zd_pfn_to_page(pfn)->word = addr;
	/* release: a thread that reads the pfn sees the count; pairs with the acquire in
	 * zd_entry_load(), GUP's walk() */
	if (!zd_entry_is_free(*entry, zd_now_ns()))
		flags = ZD_ENTRY_UNSETTLED;
	zd_entry_store(entry, ZD_ENTRY_SYSTEM | flags | pfn << ZD_ENTRY_VAL_SHIFT);
	return 0;
}

/* Are all the huge page's entries NONE, or can they be made so? */
static bool clear_block(struct zd_mm *mm, uint64_t addr)
{
	uint64_t now = zd_now_ns();

	for (unsigned int i = 0; i < ZD_FOLIO_PAGES; i++) {
		zd_entry_t *entry = zd_mm_entry(mm, addr + i * ZD_PAGE_SIZE);

		if (zd_entry_state(*entry) == ZD_ENTRY_SYSTEM ? !zd_ram_page_release(entry) :
								!zd_entry_is_free(*entry, now))
			return false;
	}
	return true;
}

/* The server's thread; doesn't block. */
int zd_ram_page_install_folio(struct zd_mm *mm, uint64_t addr)
{
	int rc = mm->ram_pages ? 0 : ram_pages_create(mm);
	struct zd_page *folio;

	if (rc)
		return rc;
	if (!clear_block(mm, addr))
		return -EBUSY;
	folio = take_folio(mm->ram_pages);
	if (!folio)
		return -ENOMEM;
	/* can't fail: this pagemap goes after the mm's last page */
	ZD_BUG_ON(zd_page_init(folio), "folio of mm slot %u", mm->slot);
	folio->word = ZD_FOLIO_PAGES;
	for (unsigned int i = 0; i < ZD_FOLIO_PAGES; i++) {
		struct zd_page *page = folio_page(folio, i);

		ZD_BUG_ON(zd_page_init(page), "folio of mm slot %u", mm->slot);
		page->pgmap_id |= ZD_PAGE_FOLIO;
		page->word = addr + i * ZD_PAGE_SIZE;
	}
	for (unsigned int i = 0; i < ZD_FOLIO_PAGES; i++)	/* release: as above */
		zd_entry_store(zd_mm_entry(mm, addr + i * ZD_PAGE_SIZE),
			       ZD_ENTRY_SYSTEM | ZD_ENTRY_FOLIO |
				       zd_page_to_pfn(folio_page(folio, i)) << ZD_ENTRY_VAL_SHIFT);
	return 0;
}

/* No thread can get the page from here on.  False: one holds it. */
static bool freeze(struct zd_page *page)
{
	uint32_t unheld = 1;

	/* acquire and release: what earlier holders did to the page is done, and no new
	 * holder comes; pairs with zd_try_get_page_refs() */
	return __atomic_compare_exchange_n(&page->refcount, &unheld, 0, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

static void thaw(struct zd_page *page)
{
	__atomic_store_n(&page->refcount, 1, __ATOMIC_RELEASE);	/* as zd_page_init() */
}

static bool release_folio(struct zd_mm *mm, struct zd_page *folio)
{
	unsigned int i;

	if (!freeze(folio))
		return false;
	for (i = 0; i < ZD_FOLIO_PAGES; i++)
		if (!freeze(folio_page(folio, i)))
			break;
	if (i < ZD_FOLIO_PAGES) {
		while (i--)
			thaw(folio_page(folio, i));
		thaw(folio);
		return false;
	}
	for (i = 0; i < ZD_FOLIO_PAGES; i++) {
		struct zd_page *page = folio_page(folio, i);
		zd_entry_t *entry = zd_mm_entry(mm, page->word);

		/* if the page was unmapped since, the entry is another page's, or empty */
		if (zd_entry_state(*entry) == ZD_ENTRY_SYSTEM &&
		    zd_entry_val(*entry) == zd_page_to_pfn(page))
			zd_entry_store(entry, 0);
	}
	__zd_put_page(folio);
	return true;
}

/* The server's thread; doesn't block. */
bool zd_ram_page_release(zd_entry_t *entry)
{
	struct zd_page *page = zd_pfn_to_page(zd_entry_val(*entry));
	const struct zd_ram_pages *pool;
	bool settled;

	if (*entry & ZD_ENTRY_FOLIO) {
		pool = zd_page_pagemap(page)->owner;
		return release_folio(pool->mm, zd_page_folio_(page));
	}
	if (!freeze(page))
		return false;
	settled = !(*entry & ZD_ENTRY_UNSETTLED);
	zd_entry_store(entry, settled ? 0 : zd_entry_going(zd_now_ns()));
	__zd_put_page(page);
	return settled;
}

void zd_ram_page_drop(zd_entry_t *entry)
{
	struct zd_page *page = zd_pfn_to_page(zd_entry_val(*entry));
	bool of_folio = *entry & ZD_ENTRY_FOLIO;

	zd_entry_store(entry, 0);
	if (of_folio) {
		page = zd_page_folio_(page);
		if (--page->word)
			return;		/* other pages of the folio are mapped */
	}
	zd_put_page(page);
}

uint64_t zd_ram_pages_release_all(struct zd_mm *mm)
{
	if (!mm->ram_pages)
		return 0;
	for (size_t i = 0; i < mm->ranges.nr; i++) {
		uint64_t end = mm->ranges.v[i].end;
		uint64_t addr = zd_table_next(&mm->table, mm->ranges.v[i].start, end);

		for (; addr < end; addr = zd_table_next(&mm->table, addr + ZD_PAGE_SIZE, end)) {
			zd_entry_t *entry = zd_mm_entry(mm, addr);

			if (zd_entry_state(*entry) == ZD_ENTRY_SYSTEM)
				zd_ram_page_release(entry);
		}
	}
	/* pages whose entry was not released, and held ones whose mapping is gone */
	return zd_pagemap_live_pages(&mm->ram_pages->pgmap);
}

void zd_ram_pages_destroy(struct zd_mm *mm)
{
	if (!mm->ram_pages)
		return;
	ZD_BUG_ON(zd_memunmap_pages(&mm->ram_pages->pgmap), "system pages of mm slot %u", mm->slot);
	zd_free(mm->ram_pages);
	mm->ram_pages = NULL;
}

/* Any thread, any context. */
void *zd_page_address(const struct zd_page *page)
{
	const struct zd_pagemap *pgmap = zd_page_pagemap(page);

	/* of other types the word is the address, or 0 where their driver sets none */
	if (!pgmap || pgmap->type == ZD_MEMORY_DEVICE_PRIVATE)
		return NULL;
	/* an mremap may be changing it */
	return (void *)(uintptr_t)__atomic_load_n(&page->word, __ATOMIC_RELAXED);
}
