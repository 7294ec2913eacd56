/* SPDX-License-Identifier: MIT */
/*
 * Descriptors for RAM pages of managed ranges; ZD_ENTRY_SYSTEM and ZD_MEMORY_SYSTEM after the
 * kernel's MIGRATE_VMA_SELECT_SYSTEM.
 *
 * A page gets one when it is first asked for (gup.c), and its entry becomes
 * SYSTEM with the pfn.  The entry holds one reference, "the page is mapped";
 * all references above that are gets and pins.  A migration first takes the count from 1
 * to 0 (then no thread can get the page any more), then clears the entry.
 *
 * Ordering.  GUP: entry, count, entry again.  Release: count, entry.  So a get
 * that succeeds before the freeze makes the freeze fail; a get after the freeze fails;
 * and a get of a descriptor that was freed and is used again finds that the entry has
 * changed.
 *
 * Folios (zonedev/gup.h).  512 descriptors that are made together, for the 512 pages
 * of a huge page, live and die together:
 *
 *	the folio's count	1 while any of its entries is left, and its pins
 *	the folio's word	how many of its entries are left
 *	each page's count	1 while the folio lives, and its gets
 *	each page's word	its address
 *
 * so a page that is unmapped while any page of its folio is held keeps its descriptor.
 * Folios aren't split.  Where the kernel would split one (a part is migrated, or is pinned
 * by itself) no page of it may be held, and then all 512 descriptors are freed; they come
 * back one by one when they are asked for.  Where a part is unmapped or remapped its
 * entries go along; a folio of fewer entries, or of entries in several places, is still
 * one.  Releasing a folio freezes the folio's count, then each page's; if a page is held
 * all are thawed.
 *
 * Context.  The server's thread, and no call blocks; but descriptors are freed
 * (ops->page_free) by the thread of the last put.
 */
#ifndef ZD_ENGINE_RAM_PAGE_H
#define ZD_ENGINE_RAM_PAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "engine/mm.h"

/* Give the RAM page at @addr (entry NONE or GOING) its descriptor.  0, -ENOMEM. */
int zd_ram_page_install(struct zd_mm *mm, uint64_t addr);
/* The same for the whole huge page at @addr, as one folio; descriptors that some of
 * its pages have are taken away first.  0; -EBUSY: a page of it is held, or is none
 * that may be taken; -ENOMEM. */
int zd_ram_page_install_folio(struct zd_mm *mm, uint64_t addr);
/* Take the descriptor away, unless the page is held, or of a folio any page, so that the
 * page may migrate: the entry, or all of the folio's, become NONE.  False: held; or the
 * entry was UNSETTLED, and is GOING again. */
bool zd_ram_page_release(zd_entry_t *entry);
/* The mapping is gone: put this entry's reference; other references stay. */
void zd_ram_page_drop(zd_entry_t *entry);
/* Take away the descriptors of all pages that aren't held.  Returns how many are held. */
uint64_t zd_ram_pages_release_all(struct zd_mm *mm);
/* No page may be held. */
void zd_ram_pages_destroy(struct zd_mm *mm);

#endif
