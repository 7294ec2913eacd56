/* SPDX-License-Identifier: MIT */
/*
 * Getting and pinning pages.
 *
 * The fast walk takes no lock and stores nothing but counts:
 *
 *	read the entry	SYSTEM or DAX, not locked: here is a pfn
 *	try to get	add unless zero; fails if the page is being let go
 *	read it again	changed: it was another page's life; put, slow path
 *
 * A pin of pages of one folio does this once for all of them, with the folio's count
 * in the middle.
 *
 * The slow path has the kernel bring the page in (MADV_POPULATE: also home from a
 * device, through a fault like any other), asks the server, or the device mapping
 * that it lies in, to put its descriptor into the entry, and walks again.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/trace.h"
#include "hmm/device_vma.h"
#include "hmm/hmm.h"
#include "hmm/span.h"
#include "space/maps.h"
#include "engine/changes.h"
#include "engine/ram_page.h"
#include "zonedev/gup.h"
#include "zonedev/log.h"
#include "zonedev/page_owner.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

#define FOLL_ALL	(ZD_FOLL_WRITE | ZD_FOLL_LONGTERM)
#define VA_END		(UINT64_C(1) << ZD_VA_BITS)
#define HUGE_BYTES	(ZD_FOLIO_PAGES * ZD_PAGE_SIZE)
#define AHEAD		10	/* descriptors; fewer come too late, more are gone again */
#define TRIES		100	/* of catching a page that somebody keeps migrating */

/*
 * Some lines of descriptors ahead, to write to: where another CPU has been at the same
 * pages its lines come one behind another, instead of each when we need it.
 * (__builtin_prefetch() would fetch them to be read, and they would have to be fetched
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

/* @refs more references to the page of @entry, which was @e; or NULL: the slow path. */
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

/* Pages in a row of one folio, of which @e is the entry of the first: at most @max. */
static unsigned long folio_run(const zd_entry_t *entry, zd_entry_t e, unsigned long max)
{
	unsigned long n = 0;

	while (n < max && zd_entry_load(entry + n) == e + (n << ZD_ENTRY_VAL_SHIFT))
		n++;
	return n;
}

/* How many of @nr pages from that of @entry on it has pinned, all of one folio. */
static unsigned long pin_folio(const zd_entry_t *entry, zd_entry_t e, unsigned long nr,
			       struct zd_page **pages)
{
	unsigned long max = ZD_FOLIO_PAGES - zd_entry_val(e) % ZD_FOLIO_BLOCK, n, same;
	struct zd_page *page = zd_pfn_to_page(zd_entry_val(e)), *folio = zd_page_folio_(page);

	n = folio_run(entry, e, max < nr ? max : nr);
	if (!n || !zd_try_get_page_refs(folio, n * ZD_FOLIO_PIN))
		return 0;
	same = folio_run(entry, e, n);	/* as in walk_one() */
	if (same < n)
		zd_put_page_refs(folio, (n - same) * ZD_FOLIO_PIN);
	for (unsigned long i = 0; i < same; i++)
		pages[i] = page + i;
	return same;
}

/*
 * The bits of an entry that decide whether its page can be held at once; the entry is
 * is_ready() if of these only the state is set, SYSTEM or DAX.
 */
static inline zd_entry_t look_at(unsigned int flags)
{
	return ZD_ENTRY_STATE | ZD_ENTRY_LOCK | (flags & ZD_FOLL_WRITE ? ZD_ENTRY_NOWRITE : 0) |
	       (flags & ZD_FOLL_LONGTERM ? ZD_ENTRY_NOLONG : 0);
}

static inline bool is_ready(zd_entry_t e, zd_entry_t look)
{
	_Static_assert(ZD_ENTRY_DAX == ZD_ENTRY_SYSTEM + 1, "one comparison for two states");
	return (e & look) - ZD_ENTRY_SYSTEM <= 1;
}

/* The same, and it can't have been dropped since (see ZD_ENTRY_GOING). */
static inline zd_entry_t look_closely_at(unsigned int flags)
{
	return look_at(flags) | ZD_ENTRY_UNSETTLED;
}

/* May entries not be yet what an event made of them that has been read?  Its thread
 * goes on meanwhile, and may be this one.  Pairs with the store in zd_mm_set_behind(). */
static inline bool is_behind(const struct zd_mm *mm)
{
	return __atomic_load_n(&mm->behind, __ATOMIC_ACQUIRE);
}

/* How many of @nr pages, from the first on, are held now. */
static unsigned long walk(const struct zd_mm *mm, uint64_t addr, unsigned long nr,
			  zd_entry_t look, uint32_t refs, struct zd_page **pages)
{
	unsigned long i = 0, n, stop;

	if (is_behind(mm))
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

			if (!is_ready(e, look))
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

/* --- the slow path --- */

struct install_cmd {
	struct zd_cmd cmd;
	uint64_t start, end;
	uint32_t refs;
};

/* Can the descriptor that counts for the page take no more? */
static bool is_full(zd_entry_t e, uint32_t refs)
{
	struct zd_page *page = zd_pfn_to_page(zd_entry_val(e));

	if (e & ZD_ENTRY_FOLIO && refs == ZD_PIN_BIAS)
		page = zd_page_folio_(page);
	/* a whole folio's pins are as much as one page's */
	return zd_page_is_full(page);
}

/* Is it now, all of it, one huge page? */
static bool is_huge(struct zd_hmm *hmm, uint64_t addr)
{
	uint64_t pos = addr, end = addr + ZD_FOLIO_PAGES * ZD_PAGE_SIZE;
	struct zd_present p;

	return zd_is_managed(hmm->mm, addr, end) &&
	       zd_present_scan(hmm->pagemap_fd, &pos, end, &p, 1, 0) == 1 &&
	       p.huge && p.start == addr && p.end == end;
}

/* The huge page at @addr, if it is one, has a folio of its own, or gets it. */
static bool install_huge(struct zd_hmm *hmm, uint64_t addr)
{
	const zd_entry_t *entry = zd_mm_entry(hmm->mm, addr);

	if (*entry & ZD_ENTRY_FOLIO && folio_run(entry, *entry, ZD_FOLIO_PAGES) == ZD_FOLIO_PAGES)
		return true;
	return is_huge(hmm, addr) && !zd_ram_page_install_folio(hmm->mm, addr);
}

/* It was, a moment ago: but a page of zeros that migrates is just dropped, and so is
 * one that somebody gives back with madvise(). */
static bool is_present(uint64_t addr)
{
	unsigned char there = 0;

	return !mincore((void *)(uintptr_t)addr, ZD_PAGE_SIZE, &there) && there & 1;
}

/* The page at @addr gets a descriptor.  -EAGAIN: it has moved again. */
static int install_one(struct zd_mm *mm, uint64_t addr, uint32_t refs)
{
	zd_entry_t e = *zd_mm_entry(mm, addr);

	if (e & ZD_ENTRY_LOCK || !is_present(addr))
		return -EAGAIN;
	switch (zd_entry_state(e)) {
	case ZD_ENTRY_NONE:
	case ZD_ENTRY_GOING:
		return zd_ram_page_install(mm, addr);
	case ZD_ENTRY_SYSTEM:
		return is_full(e, refs) ? -ENOMEM : 0;
	case ZD_ENTRY_POISON:
		return -EFAULT;
	default:
		return -EAGAIN;
	}
}

/* Descriptors for as many of the pages as are in RAM, from the first on. */
static enum zd_cmd_result install_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct install_cmd *c = caa_container_of(cmd, struct install_cmd, cmd);
	uint64_t a = c->start, next;
	int rc = 0;

	for (; !rc && a < c->end; a = next) {
		bool whole = !(a % HUGE_BYTES) && a + HUGE_BYTES <= c->end;

		next = a + ZD_PAGE_SIZE;
		if (!zd_ranges_find(&hmm->mm->ranges, a)) {
			rc = -EFAULT;
		} else {
			if (whole && install_huge(hmm, a))
				next = a + HUGE_BYTES;
			rc = install_one(hmm->mm, a, c->refs);
		}
		if (rc && a == c->start && rc != -EAGAIN)
			cmd->rc = rc;	/* else the caller will see */
	}
	return ZD_CMD_DONE;
}

/* A page of a device mapping is ready, whatever the server is at: wait until that is
 * done, so that the walk looks at it. */
static enum zd_cmd_result settle_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	(void)cmd;
	return zd_mm_catch_up(hmm->mm) ? ZD_CMD_DONE : ZD_CMD_AGAIN;
}

static int install(struct zd_mm *mm, uint64_t start, uint64_t end, unsigned int flags,
		   uint32_t refs)
{
	int rc = zd_device_vma_install(mm, start, end, look_at(flags) & ~look_at(0));
	struct install_cmd *c;

	if (rc && rc != -ENOENT)
		return rc;
	if (!rc && !is_behind(mm))
		return 0;
	c = zd_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->cmd.step = rc ? install_step : settle_step;
	c->start = start;
	c->end = end;
	c->refs = refs;
	rc = zd_hmm_call(zd_hmm_of(mm), &c->cmd);
	zd_free(c);
	return rc;
}

/* How many of @nr pages from @addr on to make ready at a time: few enough that the
 * server isn't kept; and up to a huge page that is asked for as a whole, then all of
 * it. */
static unsigned long batch(uint64_t addr, unsigned long nr)
{
	unsigned long head = (HUGE_BYTES - (addr & (HUGE_BYTES - 1))) >> ZD_PAGE_SHIFT;

	if (nr >= head + ZD_FOLIO_PAGES)
		return head;
	return nr < ZD_FOLIO_PAGES ? nr : ZD_FOLIO_PAGES;
}

/* Make the page at @addr, and up to @nr - 1 after it, ready for the walk. */
static int make_ready(struct zd_mm *mm, uint64_t addr, unsigned long nr, unsigned int flags,
		      uint32_t refs)
{
	int advice = flags & ZD_FOLL_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	nr = batch(addr, nr);
	if (!zd_table_lookup(&mm->table, addr))
		return -EFAULT;
	/* the whole batch, or if something is wrong with a later page, the first
	 * alone */
	if (madvise((void *)(uintptr_t)addr, nr * ZD_PAGE_SIZE, advice)) {
		nr = 1;
		if (madvise((void *)(uintptr_t)addr, ZD_PAGE_SIZE, advice))
			/* EINVAL: not accessible; ENOMEM: not mapped */
			return errno == EINTR ? -EAGAIN : -EFAULT;
	}
	return install(mm, addr, addr + nr * ZD_PAGE_SIZE, flags, refs);
}

static __attribute__((noinline)) long gup(struct zd_mm *mm, uint64_t start, unsigned long nr,
					  unsigned int flags, uint32_t refs,
					  struct zd_page **pages)
{
	uint64_t addr = start & ZD_PAGE_MASK;
	unsigned long done, n;
	int tries = 0, rc;

	if (!mm || !pages || flags & ~FOLL_ALL)
		return -EINVAL;
	if (addr >= VA_END || nr > (VA_END - addr) >> ZD_PAGE_SHIFT)
		return -EFAULT;
	done = walk(mm, addr, nr, look_closely_at(flags), refs, pages);
	while (done < nr) {
		uint64_t at = addr + done * ZD_PAGE_SIZE;

		rc = tries++ < TRIES ? make_ready(mm, at, nr - done, flags, refs) : -EAGAIN;
		if (rc)
			return done ? (long)done : rc;
		n = walk(mm, at, batch(at, nr - done), look_at(flags), refs, pages + done);
		done += n;
		if (n)
			tries = 0;
	}
	return done;
}

/* One page, held as it is: nothing else to set up.  What it doesn't do, gup() does. */
static inline bool gup_one(const struct zd_mm *mm, uint64_t addr, unsigned int flags,
			   uint32_t refs, struct zd_page **pages)
{
	const zd_entry_t *entry;
	struct zd_page *page;
	zd_entry_t e;

	if (!mm || !pages || flags & ~FOLL_ALL || addr >= VA_END || is_behind(mm))
		return false;
	entry = zd_table_lookup(&mm->table, addr);
	if (!entry)
		return false;
	e = zd_entry_load(entry);
	if (!is_ready(e, look_closely_at(flags)) || (refs == ZD_PIN_BIAS && e & ZD_ENTRY_FOLIO))
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
	long n = nr == 1 && gup_one(mm, addr, flags, ZD_PIN_BIAS, pages) ? 1 :
		 gup(mm, addr, nr, flags, ZD_PIN_BIAS, pages);

	if (n > 0)
		ZD_PROBE2(page_ref_pin, zd_page_to_pfn(pages[0]), n);
	return n;
}

/* Returns how many of @nr pages, the first at least, it has let go at once. */
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
	for (unsigned long i = 0; i < nr; ) {
		if (i + AHEAD < nr)
			prefetchw(pages[i + AHEAD]);
		i += unpin(pages + i, nr - i);
	}
}

void zd_unpin_user_pages_dirty_lock(struct zd_page *const *pages, unsigned long nr,
				    bool make_dirty)
{
	/* The kernel knows: RAM of the program is its own, and pages of a region
	 * were written to through a mapping of the file, or by a pin of its own. */
	(void)make_dirty;
	zd_unpin_user_pages(pages, nr);
}
