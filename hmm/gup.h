/* SPDX-License-Identifier: MIT */
/* What the walk (gup.c) and the ways to make a page ready for it share. */
#ifndef ZD_HMM_GUP_H
#define ZD_HMM_GUP_H

#include "engine/mm.h"
#include "zonedev/gup.h"

#define ZD_GUP_HUGE_BYTES	(ZD_FOLIO_PAGES * ZD_PAGE_SIZE)

/* The bits of an entry by which a page refuses to be held as @flags ask. */
static inline zd_entry_t zd_gup_refusals(unsigned int flags)
{
	return (flags & ZD_FOLL_WRITE ? ZD_ENTRY_NOWRITE : 0) |
	       (flags & ZD_FOLL_LONGTERM ? ZD_ENTRY_NOLONG : 0);
}

/* Has an event been read of which the entries may not show yet what it changed?  The
 * thread that made the change goes on meanwhile, and may be the one that asks. */
static inline bool zd_mm_is_behind(const struct zd_mm *mm)
{
	/* acquire: pairs with the store in zd_mm_set_behind() */
	return __atomic_load_n(&mm->behind, __ATOMIC_ACQUIRE);
}

/* How many entries from @entry on, at most @max, are those of consecutive pages, of which
 * @e is the first's.  Any thread. */
static inline unsigned long zd_folio_run(const zd_entry_t *entry, zd_entry_t e, unsigned long max)
{
	unsigned long n = 0;

	while (n < max && zd_entry_load(entry + n) == e + (n << ZD_ENTRY_VAL_SHIFT))
		n++;
	return n;
}

/* Can the count of @page take no more? */
static inline bool zd_page_is_full(const struct zd_page *page)
{
	return zd_page_count(page) > INT32_MAX - (int32_t)ZD_PIN_BIAS;
}

/*
 * Make the page at @addr, and up to @nr - 1 after it, ready for the walk.  A thread of the
 * program, without locks; blocks.  0: some are, or the walk will tell; -EAGAIN: the page at
 * @addr is on the move, try again; else why it can't be held, as zd_get_user_pages_fast().
 */
int zd_gup_faultin(struct zd_mm *mm, uint64_t addr, unsigned long nr, unsigned int flags,
		   uint32_t refs);

#endif
