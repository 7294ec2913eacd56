/* SPDX-License-Identifier: MIT */
/*
 * Getting and pinning pages.
 *
 * The walk takes no lock and stores nothing but counts:
 *
 *	read the entry	SYSTEM or DAX, not locked: here is a pfn
 *	try to get	add unless zero; fails if the page is being let go
 *	read it again	changed: the count was of the descriptor's next life; put, slow path
 *
 * A pin of pages of one folio does this once for all of them, with the folio's count
 * in the middle.
 *
 * Where the walk stops, the slow path (gup_faultin.c) makes the next pages ready, and the
 * walk goes on.
 *
 * Any thread of the program, without locks, but none in a signal handler; blocks in the slow
 * path only.  The server's thread must not: the slow path would wait for that very thread.
 */
#include <errno.h>

#include "base/trace.h"
#include "hmm/gup.h"
#include "zonedev/page_owner.h"

#define FOLL_ALL	(ZD_FOLL_WRITE | ZD_FOLL_LONGTERM)
#define VA_END		(UINT64_C(1) << ZD_VA_BITS)
#define AHEAD		10	/* descriptors; fewer come too late, more are gone again */
#define TRIES		100	/* to catch a page that another thread keeps migrating */

/*
 * Fetch the cache line of a descriptor some way ahead, to write to it.  Lines that another
 * CPU has written then come one behind another, instead of each when it is needed.
 * (__builtin_prefetch() would fetch a line to be read, and it would have to be fetched
 * twice; PREFETCHW is as old as x86-64, or does nothing.)
 */
static inline void prefetchw(const struct zd_page *page)
{
#ifdef __x86_64__
	__asm__ volatile("prefetchw %0" : : "m"(page->refcount));
#else
	__builtin_prefetch(page, 1);
#endif
}

/* Take @refs references to the page of @entry, which was @e when it was read.  NULL: @e is no
 * longer true. */
static inline struct zd_page *walk_one(const zd_entry_t *entry, zd_entry_t e, uint32_t refs)
{
	struct zd_page *page = zd_pfn_to_page(zd_entry_val(e));

	if (!zd_try_get_page_refs(page, refs))
		return NULL;
	/* ordered after the get by its acquire; pairs with zd_ram_page_release():
	 * count first, entry second */
	if (zd_entry_load(entry) == e)
		return page;
	zd_put_page_refs(page, refs);
	return NULL;
}

/* Pin up to @nr pages of one folio, the first that of @entry, which was @e.  Returns how
 * many, 0 if @e is no longer true. */
static unsigned long pin_folio(const zd_entry_t *entry, zd_entry_t e, unsigned long nr,
			       struct zd_page **pages)
{
	unsigned long max = ZD_FOLIO_PAGES - zd_entry_val(e) % ZD_FOLIO_BLOCK, n, same;
	struct zd_page *page = zd_pfn_to_page(zd_entry_val(e)), *folio = zd_page_folio_(page);

	n = zd_folio_run(entry, e, max < nr ? max : nr);
	if (!n || !zd_try_get_page_refs(folio, n * ZD_FOLIO_PIN))
		return 0;
	same = zd_folio_run(entry, e, n);	/* as in walk_one() */
	if (same < n)
		zd_put_page_refs(folio, (n - same) * ZD_FOLIO_PIN);
	for (unsigned long i = 0; i < same; i++)
		pages[i] = page + i;
	return same;
}

/* The bits of an entry by which the walk decides: the page can be held at once if of these
 * only its state is set, SYSTEM or DAX. */
static inline zd_entry_t ready_mask(unsigned int flags)
{
	return ZD_ENTRY_STATE | ZD_ENTRY_LOCK | zd_gup_refusals(flags);
}

/* Before the page has been populated: also that no madvise() can have dropped it since it
 * got its descriptor (see ZD_ENTRY_GOING). */
static inline zd_entry_t first_mask(unsigned int flags)
{
	return ready_mask(flags) | ZD_ENTRY_UNSETTLED;
}

static inline bool is_ready(zd_entry_t e, zd_entry_t mask)
{
	return (e & mask) == ZD_ENTRY_SYSTEM || (e & mask) == ZD_ENTRY_DAX;
}

/* Hold @nr pages from @addr on, up to the first that isn't ready.  Returns how many. */
static unsigned long walk(const struct zd_mm *mm, uint64_t addr, unsigned long nr, zd_entry_t mask,
			  uint32_t refs, struct zd_page **pages)
{
	unsigned long i = 0, n, stop;

	if (zd_mm_is_behind(mm))
		return 0;
	while (i < nr) {
		uint64_t at = addr + i * ZD_PAGE_SIZE;
		const zd_entry_t *entry = zd_table_lookup(&mm->table, at);

		if (!entry)
			break;
		/* entries lie in a row up to the table's next leaf */
		stop = i + ((ZD_TABLE_SPAN - (at & (ZD_TABLE_SPAN - 1))) >> ZD_PAGE_SHIFT);
		stop = stop < nr ? stop : nr;
		for (; i < stop; i += n, entry += n) {
			zd_entry_t e = zd_entry_load(entry);

			if (!is_ready(e, mask))
				return i;
			if (refs == ZD_PIN_BIAS && e & ZD_ENTRY_FOLIO) {
				n = pin_folio(entry, e, stop - i, pages + i);
			} else {
				prefetchw(zd_pfn_to_page(zd_entry_val(e)) + AHEAD);
				pages[i] = walk_one(entry, e, refs);
				n = pages[i] != NULL;
			}
			if (!n)
				return i;
		}
	}
	return i;
}

/* How many of @nr pages from @addr on to make ready at a time: few enough that the server's
 * thread isn't held up, but all of a huge page that is asked for as a whole; what lies before
 * such a page is a batch of its own. */
static unsigned long batch(uint64_t addr, unsigned long nr)
{
	unsigned long head = ZD_FOLIO_PAGES - addr % ZD_GUP_HUGE_BYTES / ZD_PAGE_SIZE;

	if (nr >= head + ZD_FOLIO_PAGES)
		return head;
	return nr < ZD_FOLIO_PAGES ? nr : ZD_FOLIO_PAGES;
}

/* The general case, kept out of the callers, so that gup_one() is all they inline. */
static __attribute__((noinline)) long gup(struct zd_mm *mm, uint64_t start, unsigned long nr,
					  unsigned int flags, uint32_t refs, struct zd_page **pages)
{
	uint64_t addr = start & ZD_PAGE_MASK;
	unsigned long done, n;
	int tries = 0, rc;

	if (!mm || !pages || flags & ~FOLL_ALL)
		return -EINVAL;
	if (addr >= VA_END || nr > (VA_END - addr) >> ZD_PAGE_SHIFT)
		return -EFAULT;
	done = walk(mm, addr, nr, first_mask(flags), refs, pages);
	while (done < nr) {
		uint64_t at = addr + done * ZD_PAGE_SIZE;

		n = batch(at, nr - done);
		rc = tries++ < TRIES ? zd_gup_faultin(mm, at, n, flags, refs) : -EAGAIN;
		if (rc)
			return done ? (long)done : rc;
		n = walk(mm, at, n, ready_mask(flags), refs, pages + done);
		done += n;
		if (n)
			tries = 0;
	}
	return done;
}

/* The common case: one page that is ready.  False: leave the call to gup(). */
static inline bool gup_one(const struct zd_mm *mm, uint64_t addr, unsigned int flags, uint32_t refs,
			   struct zd_page **pages)
{
	const zd_entry_t *entry;
	struct zd_page *page;
	zd_entry_t e;

	if (!mm || !pages || flags & ~FOLL_ALL || addr >= VA_END || zd_mm_is_behind(mm))
		return false;
	entry = zd_table_lookup(&mm->table, addr);
	if (!entry)
		return false;
	e = zd_entry_load(entry);
	if (!is_ready(e, first_mask(flags)) || (refs == ZD_PIN_BIAS && e & ZD_ENTRY_FOLIO))
		return false;
	page = walk_one(entry, e, refs);
	if (page)
		*pages = page;
	return page;
}

long (zd_get_user_pages_fast)(struct zd_mm *mm, const void *start, unsigned long nr,
			     unsigned int flags, struct zd_page **pages)
{
	uint64_t addr = (uintptr_t)start;

	if (nr == 1 && gup_one(mm, addr, flags, 1, pages))
		return 1;
	return gup(mm, addr, nr, flags, 1, pages);
}

long (zd_pin_user_pages_fast)(struct zd_mm *mm, const void *start, unsigned long nr,
			     unsigned int flags, struct zd_page **pages)
{
	uint64_t addr = (uintptr_t)start;
	long n = nr == 1 && gup_one(mm, addr, flags, ZD_PIN_BIAS, pages) ?
			 1 :
			 gup(mm, addr, nr, flags, ZD_PIN_BIAS, pages);

	if (n > 0)
		ZD_PROBE2(page_ref_pin, zd_page_to_pfn(pages[0]), n);
	return n;
}

/* Unpin the first of @nr pages, and those after it that are its folio's and in a row.
 * Returns how many. */
static unsigned long unpin(struct zd_page *const *pages, unsigned long nr)
{
	struct zd_page *page = pages[0];
	unsigned long n = 1, max;

	if (!(page->pgmap_id & ZD_PAGE_FOLIO)) {
		zd_put_page_refs(page, ZD_PIN_BIAS);
		return 1;
	}
	max = ZD_FOLIO_PAGES - zd_page_to_pfn(page) % ZD_FOLIO_BLOCK;
	max = max < nr ? max : nr;
	while (n < max && pages[n] == page + n)
		n++;
	zd_put_page_refs(zd_page_folio_(page), n * ZD_FOLIO_PIN);
	return n;
}

void zd_unpin_user_page(struct zd_page *page)
{
	ZD_PROBE2(page_ref_unpin, zd_page_to_pfn(page), 1);
	unpin(&page, 1);
}

void zd_unpin_user_pages(struct zd_page *const *pages, unsigned long nr)
{
	if (nr)
		ZD_PROBE2(page_ref_unpin, zd_page_to_pfn(pages[0]), nr);
	for (unsigned long i = 0; i < nr;) {
		if (i + AHEAD < nr)
			prefetchw(pages[i + AHEAD]);
		i += unpin(pages + i, nr - i);
	}
}

void zd_unpin_user_pages_dirty_lock(struct zd_page *const *pages, unsigned long nr, bool make_dirty)
{
	/* Nothing to note: the kernel knows what is dirty.  RAM is the program's own, and
	 * pages of a region were written to through a mapping of the region's file, or by a
	 * pin that the kernel has of them. */
	(void)make_dirty;
	zd_unpin_user_pages(pages, nr);
}
