/* SPDX-License-Identifier: MIT */
/*
 * zonedev/migrate.h - trade places: program memory out to a device, and home.
 *
 * Pages that can't go stay where they are, and nothing is lost: the program may touch the
 * range at any time while it migrates.
 *
 * Context of all calls: may block, parent only (-EINVAL); not in the server's thread.
 */
#ifndef ZONEDEV_MIGRATE_H
#define ZONEDEV_MIGRATE_H

#include <zonedev/device.h>
#include <zonedev/mm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* How many pages went, and why the others did not.  Grows at the end: see zonedev.h,
 * "Binary interface". */
struct zd_migrate_result {
	uint64_t moved;
	uint64_t zero;		/* all zeros: dropped, no device page needed */
	uint64_t already;	/* were on the wanted side: on that device (home: or nowhere) */
	/* never written, or swapped out; and as in the kernel's migrate_vma, a page that
	 * the kernel itself is moving just then (to compact memory, say), which goes when
	 * the migration is tried again; migrate_vma: or on another device */
	uint64_t absent;
	uint64_t pinned;	/* pinned by the kernel (I/O in flight, registered buffers) */
	uint64_t shared;	/* shared after a fork and not written since */
	/* not writable, mlocked, or not anonymous; or malloc's own, and a driver of the mm may
	 * call malloc (zonedev/device.h) */
	uint64_t protection;
	/* the address space was changing, another migration had it, a thread needed it while it
	 * was on its way, or a madvise(MADV_DONTNEED, MADV_FREE) did a moment ago */
	uint64_t busy;
	/* the device was full (migrate_vma: dst[] named no page for it), failed, can't be reached
	 * now, or is being removed (home: it could not read them, or can't be reached now) */
	uint64_t device;
};

/*
 * zd_migrate_to_device - move the resident pages of a managed range out, and those that are
 * on another device of the mm to @dev.
 *
 * @addr, @len: whole pages inside are taken, as in zd_mm_register(); they must
 * lie in registered ranges.  @dev: a registered device; it is attached to the mm
 * at its first use.  An mm may have up to 8 devices; zd_device_live_pages() says how many pages
 * each has.  A page goes where it is asked to go, and stays if @dev doesn't take it.
 * @result: may be NULL.
 * Returns 0 when every page that could be tried was tried (look at @result),
 * -EINVAL: not managed, -EBUSY: the device is another mm's, -ENOSPC: the mm has 8
 * devices, or -ENOMEM.  Where the device's driver may call malloc (zonedev/device.h): -EOPNOTSUPP, and a
 * line in the log: not here; and at its first use -EBUSY: a zd_migrate_vma_setup() waits for its
 * finalize, or the error of a device that can't read back what of malloc's own is on it.
 * The calling thread, which waits, gives memory that has moved back to the kernel.
 * Like the kernel's migrate_vma with a driver's copy in between, in one call.
 */
int zd_migrate_to_device_sized(struct zd_mm *mm, void *addr, size_t len, struct zd_device *dev,
			       struct zd_migrate_result *result, size_t size);

static inline int zd_migrate_to_device(struct zd_mm *mm, void *addr, size_t len,
				       struct zd_device *dev, struct zd_migrate_result *result)
{
	return zd_migrate_to_device_sized(mm, addr, len, dev, result, sizeof(*result));
}

/* zd_migrate_to_ram - bring the pages of a range home.  Returns 0, -EINVAL, -ENOMEM (as
 * many as fit are home), or the device's error, mostly -EIO: the pages that it could not
 * read stay there (@result->device), all others are home.  Only a thread that touches
 * such a page loses it, if it can't be read then.  -EAGAIN: the device can't be reached now;
 * call again later, or let the threads that need the pages wait for them. */
int zd_migrate_to_ram_sized(struct zd_mm *mm, void *addr, size_t len,
			    struct zd_migrate_result *result, size_t size);

static inline int zd_migrate_to_ram(struct zd_mm *mm, void *addr, size_t len,
				    struct zd_migrate_result *result)
{
	return zd_migrate_to_ram_sized(mm, addr, len, result, sizeof(*result));
}

/*
 * zd_migrate_device_pfns - the device pages that hold a range.
 *
 * pfns[i] is the device page of the i-th whole page, whichever device's it is
 * (zd_device_page_index()), or 0 for one that is on none.  A snapshot: good only as long as the program doesn't touch,
 * free or fork the range, which the caller must know (a device that computes
 * on memory that the CPU uses at the same time needs more than that).
 * @nr: the number of whole pages in the range.  Returns 0 or -EINVAL.
 */
int zd_migrate_device_pfns(struct zd_mm *mm, const void *addr, size_t len, zd_pfn_t *pfns,
			   size_t nr);

/*
 * The kernel's three steps, for drivers that copy by themselves.
 *
 *	setup:    collects the pages of [start, end), locks their entries and
 *		  takes them out of the range.  src[i] gets ZD_MIGRATE_PFN_VALID |
 *		  ZD_MIGRATE_PFN_MIGRATE and data[i] points to its content; both are 0
 *		  for a page that can't go: untouched, on the device already, pinned,
 *		  shared... (@result counts them).  dst[] is cleared.
 *	(you)     for each page that you want: take a device page from your own
 *		  ->alloc_pages, make it live with zd_page_init(), copy data[i] into it,
 *		  and set dst[i] = zd_migrate_pfn(pfn).  Leave dst[i] 0 for a page that
 *		  is to stay, also where zd_page_init() fails (-ENODEV: the device is
 *		  being removed; the device page is still yours).
 *	pages:    the entries become device pages.  src[i] keeps
 *		  ZD_MIGRATE_PFN_MIGRATE for those that went, and loses it for all
 *		  others.
 *	(you)     update your own tables by src[] and dst[].
 *	finalize: unlocks; pages that didn't go are back where they were, device pages
 *		  that were not used are given back.  Fills @result.
 *
 * Whose a device page is.  zd_page_init() gives it one reference, which is yours until
 * dst[i] names the page and zd_migrate_vma_pages() is called; then it is zonedev's,
 * whatever happens, and you never put it:
 *
 *	the page went		the reference is the mapping's.  When the program touches,
 *				frees or unmaps the page (from the end of pages on: don't rely
 *				on dst[i] after that) it is put, and ->page_free says so.
 *	it didn't		src[i] has lost ZD_MIGRATE_PFN_MIGRATE; the reference is put by
 *				finalize: ->page_free.  So it is for a page that was unmapped,
 *				or dropped by madvise(), since setup; for one whose device is
 *				being removed; and where src[i] was 0.  (Clear dst[i] before
 *				finalize to keep the reference instead.)
 *	dst[i] is 0		nothing to give back, the program's page stays.
 *	dst[i] is bad		not a page of @dev, other bits, named twice, or mapped already:
 *				a warning (once), the program's page stays, and what dst[i]
 *				names is left alone.
 *
 * A page in dst[] that is as ->alloc_pages gave it, count 0, is initialised by
 * zd_migrate_vma_pages(), and then is as any other.  (Where that fails, since the device
 * is being removed, finalize gives it back by ->unalloc_pages.)
 *
 * All zeros are a content like any other here: such a page goes to the device page that
 * you chose for it.
 *
 * To give up in the middle call finalize alone: every page goes back, live pages that
 * dst[] still names are put, and those that aren't live stay yours.
 *
 * Between setup and finalize a thread that touches one of the pages waits: be
 * quick, and don't touch them yourself.  finalize must follow a setup that
 * returned 0, from the same process; until then zd_mm_close() fails with -EBUSY.  When
 * the process exits in between, the pages go back by themselves, as far as other
 * processes need them.  In a forked child pages and finalize do nothing.
 *
 * Differs from the kernel: at most ZD_MIGRATE_VMA_MAX pages a call, content is reached
 * through data[], not a struct page, an untouched page can't be given a device page,
 * there is no page lock (a page that went may come home before finalize), and a page
 * that isn't initialised will do.
 */
#define ZD_MIGRATE_VMA_MAX	512
#define ZD_MIGRATE_PFN_VALID	(1UL << 0)
#define ZD_MIGRATE_PFN_MIGRATE	(1UL << 1)
#define ZD_MIGRATE_PFN_SHIFT	6

/* An entry of src[] and dst[], and back.  Context: signal-safe, fork-safe. */
static inline uint64_t zd_migrate_pfn(zd_pfn_t pfn)
{
	return pfn << ZD_MIGRATE_PFN_SHIFT | ZD_MIGRATE_PFN_VALID;
}

static inline zd_pfn_t zd_migrate_pfn_to_pfn(uint64_t mpfn)
{
	return mpfn >> ZD_MIGRATE_PFN_SHIFT;
}

/* @result stays the last: the struct grows with it. */
struct zd_migrate_vma {
	struct zd_mm *mm;
	void *start, *end;	/* page-aligned */
	struct zd_device *dev;	/* whose pages dst[] will name */
	uint64_t *src;		/* (end - start) / ZD_PAGE_SIZE entries each */
	uint64_t *dst;
	const void **data;
	uint64_t cpages;	/* result: pages collected */
	void *priv;		/* zonedev's */
	struct zd_migrate_result result;
};

/* zd_migrate_vma_setup - 0 (cpages may be 0); -EINVAL: bad arguments, or not managed; -EBUSY:
 * the device is another mm's, or a migration is at work just now; -ENOSPC: the mm has 8 devices;
 * -ENOMEM.  After an error
 * there is nothing to finalize. */
int zd_migrate_vma_setup_sized(struct zd_migrate_vma *args, size_t size);

static inline int zd_migrate_vma_setup(struct zd_migrate_vma *args)
{
	return zd_migrate_vma_setup_sized(args, sizeof(*args));
}

/* zd_migrate_vma_pages, zd_migrate_vma_finalize - once each.  Without a setup that returned 0
 * before them both only warn (once). */
void zd_migrate_vma_pages(struct zd_migrate_vma *args);
void zd_migrate_vma_finalize(struct zd_migrate_vma *args);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
