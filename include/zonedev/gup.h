/* SPDX-License-Identifier: MIT */
/*
 * zonedev/gup.h - get and pin the pages of a managed range.
 *
 * A held page of a managed range stays where it is: no migration takes it to a device
 * until it is let go.  A page that is on a device comes home first: that is how "no GUP on
 * device-private pages" holds.
 *
 * A get (zd_get_user_pages_fast) is for a short look, a pin
 * (zd_pin_user_pages_fast) for data that a device or a thread reads or writes meanwhile, as
 * in Linux (FOLL_GET and FOLL_PIN): a pin counts ZD_PIN_BIAS in the same count, so
 * that "may this page migrate?" is one load.
 *
 * Huge pages.  A call that holds the whole of a transparent huge page makes a folio of its
 * 512 descriptors: from then on, and until a migration finds that none of them is held,
 * pins of its pages are counted in one place, with one update for as many
 * of them as one call names.  So one pinned page holds all 512, as in Linux; and so
 * does one page that was got, though gets are counted page by page: zd_put_page() doesn't
 * ask what kind of page it has.
 *
 * How this differs from Linux: what is held is the page's place, not its frame.
 * If the program unmaps the address, or gives the page back with
 * madvise(MADV_DONTNEED), the descriptor lives on until the page is let go, and the
 * memory is gone.
 */
#ifndef ZONEDEV_GUP_H
#define ZONEDEV_GUP_H

#include <stdbool.h>
#include <stdint.h>
#include <zonedev/mm.h>
#include <zonedev/page.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define ZD_FOLL_WRITE		(1u << 0)	/* the page will be written to */
#define ZD_FOLL_LONGTERM	(1u << 1)	/* for long: refused for FS_DAX pages */

#define ZD_PIN_BIAS	1024u

/*
 * Folios, for the inline functions below and zonedev's own code.  A folio's pages are the
 * first half of an aligned block of descriptors; the descriptor after them is the folio's,
 * whose count is 1 while any of the pages is mapped, and ZD_FOLIO_PIN for each pin.  (Not
 * ZD_PIN_BIAS: 512 of those at once would run over after 4095 times.)
 */
#define ZD_FOLIO_PAGES	512u
#define ZD_FOLIO_BLOCK	(2 * ZD_FOLIO_PAGES)
#define ZD_FOLIO_PIN	2u

/*
 * zd_get_user_pages_fast / zd_pin_user_pages_fast - hold @nr pages from @start.
 *
 * @start: any address in the first page.  @pages: result, one descriptor a page.
 * Returns how many were got, from the first on: fewer than @nr if a later one
 * can't be; or -errno for the first: -EFAULT: not managed, or not accessible as
 * @flags ask; -EOPNOTSUPP: ZD_FOLL_LONGTERM, and the page is an FS_DAX one; -EINVAL: bad
 * flags; -ENOMEM: no memory, or too many pins of one page (about 2 million); -EAGAIN:
 * the page changed at each try.
 *
 * Takes no lock and makes no system call when the pages have been got before and
 * not migrated since; else it blocks, while pages come home.
 * Mirrors the kernel's functions of these names.
 * Context: may block, parent only: in a child the calls fail with -EINVAL for pages that
 * weren't got before the fork, and don't notice for others; not in the server's thread.
 */
long zd_get_user_pages_fast(struct zd_mm *mm, const void *start, unsigned long nr,
			    unsigned int flags, struct zd_page **pages);
long zd_pin_user_pages_fast(struct zd_mm *mm, const void *start, unsigned long nr,
			    unsigned int flags, struct zd_page **pages);

/* zd_unpin_user_page, zd_unpin_user_pages - let go of what zd_pin_user_pages_fast() gave.
 * (What zd_get_user_pages_fast() gave is put with zd_put_page().)
 * Context: any thread, fork-safe. */
void zd_unpin_user_page(struct zd_page *page);
void zd_unpin_user_pages(struct zd_page *const *pages, unsigned long nr);

/* zd_unpin_user_pages_dirty_lock - the same for pages that were written to; @make_dirty false:
 * they were not.  Makes no difference at present: the kernel knows a page as dirty that was
 * written through an address, and zd_pmem_persist() or msync() finds it.  Mirrors the
 * kernel's unpin_user_pages_dirty_lock().
 * Context: any thread, fork-safe. */
void zd_unpin_user_pages_dirty_lock(struct zd_page *const *pages, unsigned long nr,
				    bool make_dirty);

/* The descriptor that counts the pins of @page, one with ZD_PAGE_FOLIO. */
static inline struct zd_page *zd_page_folio_(const struct zd_page *page)
{
	return zd_pfn_to_page((zd_page_to_pfn(page) | (ZD_FOLIO_BLOCK - 1)) - (ZD_FOLIO_PAGES - 1));
}

/* zd_page_maybe_dma_pinned - might the page, which the caller holds, be pinned, or for a folio
 * any page of it?  Never a false "no"; a page with more than ZD_PIN_BIAS gets is a false
 * "yes".
 * Context: signal-safe, fork-safe. */
static inline bool zd_page_maybe_dma_pinned(const struct zd_page *page)
{
	if (page->pgmap_id & ZD_PAGE_FOLIO)
		return zd_page_count(zd_page_folio_(page)) >= ZD_FOLIO_PIN;
	return zd_page_count(page) >= ZD_PIN_BIAS;
}

/* zd_page_address - where the page, which the caller holds, is: for a page of a managed range,
 * where the range is mapped (after a mremap() the new place, from a moment after mremap() has
 * returned on, and for certain when a page of the mapping has been got since); for a page of
 * a region that the CPU can address (zonedev/dax.h, pmem.h, p2pdma.h), in the region's own
 * mapping, which no revocation takes away.  NULL for another kind of page.
 * Context: any thread, fork-safe. */
void *zd_page_address(const struct zd_page *page);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#ifdef ZD_PAGE_OWNER
/* The same functions; what they take is noted as taken by the line that calls them. */
#define zd_get_user_pages_fast(mm, start, nr, flags, pages)			\
	ZD_PAGE_OWNER_AS_(long, (zd_get_user_pages_fast)(mm, start, nr, flags, pages))
#define zd_pin_user_pages_fast(mm, start, nr, flags, pages)			\
	ZD_PAGE_OWNER_AS_(long, (zd_pin_user_pages_fast)(mm, start, nr, flags, pages))
#endif
#endif
