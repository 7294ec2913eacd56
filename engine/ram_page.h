/* SPDX-License-Identifier: MIT */
/*
 * Descriptors for RAM pages of managed ranges; ZD_ENTRY_SYSTEM and ZD_MEMORY_SYSTEM after the
 * kernel's MIGRATE_VMA_SELECT_SYSTEM.
 *
 * A page gets one when it is first asked for (gup.c), and its entry becomes
 * SYSTEM with the pfn.  The entry holds one reference, "the page is mapped";
 * everything above that is somebody's get or pin.  A migration first takes the
 * count from 1 to 0 (nobody can get it any more), then clears the entry.
 *
 * Ordering.  GUP: entry, count, entry again.  Release: count, entry.  So a get
 * that succeeds before the freeze makes the freeze fail; one that comes after it
 * fails; and one that meets the descriptor in its next life sees another entry.
 *
 * Folios (zonedev/gup.h).  512 descriptors that are made together, for the 512 pages
 * of a huge page, live and die together:
 *
 *	the folio's count	1 while any of its entries is left, and its pins
 *	the folio's word	how many of its entries are left
 *	each page's count	1 while the folio lives, and its gets
 *	each page's word	its address
 *
 * so a page that is unmapped while another of its folio is pinned, or while it is
 * itself, keeps its descriptor.  There is no splitting: what would split a folio
 * (a part is migrated, or is pinned by itself) needs it held by nobody, and then all
 * 512 descriptors just go, and come back one by one when they are asked for.  What
 * is unmapped or remapped in part takes its entries along; a folio of fewer entries,
 * or of entries here and there, is still one.  Letting it go freezes the folio, then
 * each page; one that is held thaws them all.
 *
 * Server's thread, but for the descriptors' return (ops->page_free).
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
/* Take it away if nobody holds the page, or for a folio any page of it, so that it
 * may migrate: the entry, or the folio's, become NONE.  False: held; or it was
 * GOING, had not settled, and is that again. */
bool zd_ram_page_release(zd_entry_t *entry);
/* The mapping is gone: this entry lets go of it; holders keep theirs. */
void zd_ram_page_drop(zd_entry_t *entry);
/* Take away all that nobody holds, in every range.  Returns how many are held. */
uint64_t zd_ram_pages_release_all(struct zd_mm *mm);
/* None may be held. */
void zd_ram_pages_destroy(struct zd_mm *mm);

#endif
