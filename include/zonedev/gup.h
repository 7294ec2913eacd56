/* SPDX-License-Identifier: MIT */
/*
 * zonedev/gup.h - get and pin the pages of a managed range.
 *
 * Who holds a page of a managed range knows that it stays where it is: no
 * migration takes it to a device, by nobody's wish, until it is let go.  A page
 * that is on a device comes home first: that is how "no GUP on device-private
 * pages" holds.
 *
 * A get (zd_get_user_pages_fast) is for a short look, a pin
 * (zd_pin_user_pages_fast) for data that somebody reads or writes meanwhile, as
 * in Linux (FOLL_GET and FOLL_PIN): a pin counts ZD_PIN_BIAS in the same count, so
 * that "may this page migrate?" is one load.
 *
 * How this differs from Linux: what is held is the page's place, not its frame.
 * If the program unmaps the address, or gives the page back with
 * madvise(MADV_DONTNEED), the descriptor lives on until it is let go, and the
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

#define ZD_FOLL_WRITE		(1u << 0)	/* it will be written to */
#define ZD_FOLL_LONGTERM	(1u << 1)	/* for long: refused for FS_DAX pages */

#define ZD_PIN_BIAS	1024u

/*
 * zd_get_user_pages_fast / zd_pin_user_pages_fast - hold @nr pages from @start.
 *
 * @start: any address in the first page.  @pages: result, one descriptor a page.
 * Returns how many were got, from the first on: fewer than @nr if a later one
 * can't be; or -errno for the first: -EFAULT: not managed, or not accessible as
 * @flags ask; -EINVAL: bad flags, or called from a forked child; -ENOMEM: no
 * memory, or too many pins of one page; -EAGAIN: the page would not hold still.
 *
 * Takes no lock and makes no system call when the pages have been got before and
 * not migrated since; else it blocks, while pages come home.  Any thread, but the
 * server's and signal handlers.
 * Mirrors the kernel's functions of these names.
 */
long zd_get_user_pages_fast(struct zd_mm *mm, uint64_t start, unsigned long nr,
			    unsigned int flags, struct zd_page **pages);
long zd_pin_user_pages_fast(struct zd_mm *mm, uint64_t start, unsigned long nr,
			    unsigned int flags, struct zd_page **pages);

/* Let go of what zd_pin_user_pages_fast() gave.  (What zd_get_user_pages_fast()
 * gave is put with zd_put_page().)  Doesn't block; any thread. */
void zd_unpin_user_page(struct zd_page *page);
void zd_unpin_user_pages(struct zd_page **pages, unsigned long nr);

/* The same for pages that were written to; @make_dirty false: they were not.
 * May block where the page's driver has to note it.  Mirrors the kernel's
 * unpin_user_pages_dirty_lock(). */
void zd_unpin_user_pages_dirty_lock(struct zd_page **pages, unsigned long nr, bool make_dirty);

/* Might somebody have pinned the page?  Never a false "no"; a page with more than
 * ZD_PIN_BIAS gets is a false "yes". */
static inline bool zd_page_maybe_dma_pinned(const struct zd_page *page)
{
	return zd_page_count(page) >= ZD_PIN_BIAS;
}

/* Where the page of a managed range is mapped, while it is held and its address
 * is not remapped; NULL for another kind of page. */
void *zd_page_address(const struct zd_page *page);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
