/* SPDX-License-Identifier: MIT */
/*
 * Descriptors for RAM pages of managed ranges.
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
 * Server's thread, but for the descriptors' return (ops->page_free).
 */
#ifndef ZD_MM_SYSTEM_H
#define ZD_MM_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>
#include "mm/mm.h"

/* Give the RAM page at @addr (entry NONE) its descriptor.  0, -ENOMEM. */
int zd_system_install(struct zd_mm *mm, uint64_t addr);
/* Take it away if nobody holds the page.  False: held. */
bool zd_system_release(zd_entry_t *entry);
/* The mapping is gone: take it away; holders keep theirs. */
void zd_system_drop(zd_entry_t *entry);
/* Take away all that nobody holds, in every range.  Returns how many are held. */
uint64_t zd_system_release_all(struct zd_mm *mm);
/* None may be held. */
void zd_system_destroy(struct zd_mm *mm);

#endif
