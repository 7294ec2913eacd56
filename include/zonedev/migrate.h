/* SPDX-License-Identifier: MIT */
/*
 * zonedev/migrate.h - trade places: program memory out to a device, and home.
 *
 * All calls may block; any thread but the server's may make them.  Pages that
 * can't go stay where they are, and nothing is lost: the program may touch the
 * range at any time while it migrates.
 */
#ifndef ZONEDEV_MIGRATE_H
#define ZONEDEV_MIGRATE_H

#include <zonedev/device.h>
#include <zonedev/mm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* How many pages went, and why the others did not. */
struct zd_migrate_result {
	uint64_t moved;
	uint64_t zero;		/* all zeros: dropped, no device page needed */
	uint64_t already;	/* were on the wanted side (home: or nowhere) */
	/* never written, or swapped out; and as in the kernel's migrate_vma, what the
	 * kernel itself is moving just then (it compacts memory, say): that goes when it
	 * is tried again */
	uint64_t absent;
	uint64_t pinned;	/* pinned by the kernel (I/O in flight, registered buffers) */
	uint64_t shared;	/* shared after a fork and not written since */
	uint64_t protection;	/* not writable, mlocked, or not anonymous */
	/* the address space was changing, another migration had it, or a
	 * madvise(MADV_DONTNEED, MADV_FREE) did a moment ago */
	uint64_t busy;
	/* the device was full, failed, or is being removed (home: it could not read them) */
	uint64_t device;
};

/*
 * zd_migrate_to_device - move the resident pages of a managed range out.
 *
 * @addr, @len: whole pages inside are taken, as in zd_mm_register(); they must
 * lie in registered ranges.  @dev: a registered device; it is attached to the mm
 * at its first use, and an mm has one device.
 * @result: may be NULL.
 * Returns 0 when every page that could be tried was tried (look at @result),
 * -EINVAL: not managed, -EBUSY: the device is another mm's, or -ENOMEM.
 * The calling thread, which waits, gives memory that has moved back to the kernel.
 * Like the kernel's migrate_vma with a driver's copy in between, in one call.
 */
int zd_migrate_to_device(struct zd_mm *mm, void *addr, size_t len, struct zd_device *dev,
			 struct zd_migrate_result *result);

/* zd_migrate_to_ram - bring the pages of a range home.  Returns 0, -EINVAL, -ENOMEM (as
 * many as fit are home), or the device's error, mostly -EIO: the pages that it could not
 * read stay there (@result->device), all others are home.  Only a thread that touches
 * such a page loses it, if it can't be read then. */
int zd_migrate_to_ram(struct zd_mm *mm, void *addr, size_t len,
		      struct zd_migrate_result *result);

/*
 * zd_migrate_device_pfns - which device pages a range is on.
 *
 * pfns[i] is the device page of the i-th whole page, or 0 for one that is not
 * on the device.  A snapshot: good only as long as the program doesn't touch,
 * free or fork the range, which is the caller's to know (a device that computes
 * on memory that the CPU uses at the same time needs more than that).
 * @nr: the number of whole pages in the range.  Returns 0 or -EINVAL.
 */
int zd_migrate_device_pfns(struct zd_mm *mm, void *addr, size_t len, zd_pfn_t *pfns, size_t nr);

/*
 * The kernel's three steps, for drivers that copy by themselves.
 *
 *	setup:    collects the pages of [start, end), locks their entries and
 *		  takes them out of the range.  src[i] gets ZD_MIGRATE_PFN_MIGRATE
 *		  and data[i] points to its content.
 *	(you)     allocate a device page for each that you want, copy data[i]
 *		  into it, and set dst[i] = zd_migrate_pfn(pfn); leave dst[i]
 *		  0 for a page that is to stay.
 *	pages:    the entries become device pages.  src[i] loses
 *		  ZD_MIGRATE_PFN_MIGRATE for those that didn't make it
 *		  (unmapped meanwhile): their device page is given back.
 *	finalize: unlocks; pages that didn't go are back where they were.
 *
 * Between setup and finalize a thread that touches one of the pages waits: be
 * quick, and don't touch them yourself.  finalize must follow a setup that
 * returned 0, from the same thread; one set of steps at a time per mm (others
 * wait).  Differs from the kernel: at most ZD_MIGRATE_VMA_MAX pages a call,
 * and content is reached through data[], not a struct page.
 */
#define ZD_MIGRATE_VMA_MAX	512
#define ZD_MIGRATE_PFN_VALID	(1UL << 0)
#define ZD_MIGRATE_PFN_MIGRATE	(1UL << 1)
#define ZD_MIGRATE_PFN_SHIFT	6

static inline uint64_t zd_migrate_pfn(zd_pfn_t pfn)
{
	return pfn << ZD_MIGRATE_PFN_SHIFT | ZD_MIGRATE_PFN_VALID;
}

static inline zd_pfn_t zd_migrate_pfn_to_pfn(uint64_t mpfn)
{
	return mpfn >> ZD_MIGRATE_PFN_SHIFT;
}

struct zd_migrate_vma {
	struct zd_mm *mm;
	uint64_t start, end;	/* page-aligned addresses */
	struct zd_device *dev;	/* whose pages dst[] will name */
	uint64_t *src;		/* (end - start) / ZD_PAGE_SIZE entries each */
	uint64_t *dst;
	const void **data;
	uint64_t cpages;	/* result: pages collected */
	struct zd_migrate_result result;
	void *private_data;	/* zonedev's */
};

/* 0 (cpages may be 0), -EINVAL, -EBUSY, -ENOMEM. */
int zd_migrate_vma_setup(struct zd_migrate_vma *args);
void zd_migrate_vma_pages(struct zd_migrate_vma *args);
void zd_migrate_vma_finalize(struct zd_migrate_vma *args);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
