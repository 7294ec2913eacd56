/* SPDX-License-Identifier: MIT */
/*
 * The entries of a stretch of an address space, and what unmap, madvise and mremap make of
 * them.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_ENTRIES_H
#define ZD_ENGINE_ENTRIES_H

#include "engine/mm.h"

/* Drop every entry of [start, end): device pages are put, pages in flight are dropped when
 * their batch lands.  The range stays managed. */
void zd_mm_drop(struct zd_mm *mm, uint64_t start, uint64_t end);

/* A madvise is going to take [start, end): entries of pages in RAM become GOING. */
void zd_mm_going(struct zd_mm *mm, uint64_t start, uint64_t end);

/* A madvise gives [start, end) up: pages that are out are dropped, their entries become
 * REMOVED. */
void zd_mm_remove(struct zd_mm *mm, uint64_t start, uint64_t end);

/* zd_mm_drop(), and the range is no longer managed. */
void zd_mm_forget(struct zd_mm *mm, uint64_t start, uint64_t end);

/* mremap: [from, from + len) is now at @to. */
void zd_mm_remap(struct zd_mm *mm, uint64_t from, uint64_t to, uint64_t len);

#endif
