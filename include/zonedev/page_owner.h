/* SPDX-License-Identifier: MIT */
/*
 * zonedev/page_owner.h - who took each reference: for removals that wait, and for
 * leaks.  After Linux' page_owner, which remembers who allocated each page.
 *
 * Code that is compiled with ZD_PAGE_OWNER has a static branch in each get and put,
 * in zd_page_init(), zd_get_dev_pagemap() and GUP: zonedev's own where it was built
 * with -Dpage_owner=true, and then the program's if it likes (-DZD_PAGE_OWNER; it
 * needs a ZD_STATIC_KEY_MODULE).  Once recording is turned on, by
 * zd_page_owner_enable() or with ZONEDEV_PAGE_OWNER=on in the environment, each of
 * them notes its file and line; a removal that runs out of time logs those of the
 * references that it waits for.  Until then a branch is one NOP.  In any other
 * build there are no branches, and the calls below return -EOPNOTSUPP.  A put by code
 * without ZD_PAGE_OWNER is not noticed before the page is freed.
 *
 * The wrappers in page.h, pagemap.h and gup.h call out-of-line functions that are declared
 * here and defined in pages/, as the slow halves of gets and puts are: the arrow from a
 * public header to the file that implements it.
 *
 * References have no names, so which of several a put drops is a conclusion: one of
 * as many counts (a get, a pin) that the same thread took, the last of them; or else
 * one that another thread took.  Where those were taken in different places it can't be
 * known which: all stay on the list, and @gone says how many of them are to be left out.
 *
 * Recording takes a lock and memory in each get and put.  A get or put in a signal
 * handler isn't noted if the handler interrupts another one, or zonedev's allocator.  A
 * child process has its parent's list, as it has the references.
 */
#ifndef ZONEDEV_PAGE_OWNER_H
#define ZONEDEV_PAGE_OWNER_H

#include <stddef.h>
#include <stdint.h>
#include <zonedev/pfn.h>
#ifdef ZD_PAGE_OWNER
#include <zonedev/static_key.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_pagemap;

/*
 * zd_page_owner_enable / zd_page_owner_disable - record from now on, or no longer.
 * Calls nest.  Disabling the last time forgets everything.
 *
 * Return 0; -EOPNOTSUPP: not built for it; -EINVAL: disabled once too often; or
 * what zd_static_branch_inc() returns.
 * Context: may block, fork-safe.
 */
int zd_page_owner_enable(void);
int zd_page_owner_disable(void);

/*
 * struct zd_page_owner - a reference.
 *
 * @pfn: the page; the first of the pagemap where @refs is 0.
 * @file, @line: the code that took it.  @file is a copy, and stays.
 * @tid: the thread that took it (gettid(2)).
 * @refs: how many counts: 1; ZD_PIN_BIAS for a pin; 0: a hold of the pagemap itself
 *	(zd_get_dev_pagemap()).
 * @gone: so many of those listed for this page with the same @refs have been put.
 *
 * Grows at the end: see zonedev.h, "Binary interface".
 */
struct zd_page_owner {
	zd_pfn_t pfn;
	const char *file;
	unsigned int line;
	int tid;
	uint32_t refs;
	uint32_t gone;
};

/*
 * zd_page_owner_report - who holds @pgmap: references that were taken while
 * recording was on, up to @max of them, by ascending pages, the latest of a page
 * first.
 *
 * @pgmap: mapped, and not unmapped meanwhile (a removal that has timed out is fine).
 * Returns how many there are (may be more than @max), or -EOPNOTSUPP.  A snapshot,
 * taken page by page.
 * Context: may block, fork-safe.
 */
long zd_page_owner_report_sized(const struct zd_pagemap *pgmap, struct zd_page_owner *out,
				size_t max, size_t size);

static inline long zd_page_owner_report(const struct zd_pagemap *pgmap, struct zd_page_owner *out,
					size_t max)
{
	return zd_page_owner_report_sized(pgmap, out, max, sizeof(*out));
}

#ifdef ZD_PAGE_OWNER
/* Out of line parts of the wrappers below, in page.h, pagemap.h and gup.h; never
 * call them. */
extern struct zd_static_key zd_page_owner_key;
void __zd_page_owner_took(zd_pfn_t pfn, uint32_t refs, const char *file, unsigned int line);
void __zd_page_owner_drops(zd_pfn_t pfn, uint32_t refs);
void __zd_page_owner_as(const char *file, unsigned int line);

/* What a wrapper does when recording is on. */
#define ZD_PAGE_OWNER_TOOK_(pfn, refs)						\
	do {									\
		if (zd_static_branch_unlikely(zd_page_owner_key))		\
			__zd_page_owner_took(pfn, refs, __FILE__, __LINE__);	\
	} while (0)
/* Before the put: afterwards the page may be another holder's. */
#define ZD_PAGE_OWNER_DROPS_(pfn, refs)						\
	do {									\
		if (zd_static_branch_unlikely(zd_page_owner_key))		\
			__zd_page_owner_drops(pfn, refs);			\
	} while (0)
/* What @call takes in this thread is noted as taken by this line. */
#define ZD_PAGE_OWNER_AS_(type, call)						\
	__extension__ ({							\
		type zd_r_;							\
										\
		if (zd_static_branch_unlikely(zd_page_owner_key))		\
			__zd_page_owner_as(__FILE__, __LINE__);			\
		zd_r_ = (call);							\
		if (zd_static_branch_unlikely(zd_page_owner_key))		\
			__zd_page_owner_as(NULL, 0);				\
		zd_r_;								\
	})
#else
#define ZD_PAGE_OWNER_TOOK_(pfn, refs)	do { } while (0)
#endif

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
