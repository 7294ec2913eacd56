/* SPDX-License-Identifier: MIT */
/*
 * Which mappings are zonedev's own: what must be kept out of managed ranges.
 *
 * Each is fenced by PROT_NONE pages, so that the kernel can't merge it with the program's
 * mappings; the pages of the fence count.  All calls: any thread; may block for a short
 * lock, which is the innermost of all.
 */
#ifndef ZD_BASE_OWN_H
#define ZD_BASE_OWN_H

#include <stdbool.h>
#include <stddef.h>

struct zd_own_range {
	void *start;
	size_t len;
};

/* zd_own_map - @len bytes (whole pages) aligned to @align between two guard pages, entered
 * in the table; @sparse: committed page by page as they are touched, also under
 * mlockall(MCL_FUTURE).  NULL on failure, with errno.  zd_own_unmap takes the same @len. */
void *zd_own_map(size_t len, size_t align, bool sparse);
void zd_own_unmap(void *p, size_t len);

/* zd_own_add - enter [start, start + len), which another file mapped.  -ENOMEM.
 * zd_own_grow - the range that starts at @start has @len bytes now. */
int zd_own_add(void *start, size_t len);
void zd_own_grow(void *start, size_t len);

/* zd_addr_is_own - whether @p lies in a mapping of zonedev's. */
bool zd_addr_is_own(const void *p);
/* zd_own_start - the first byte of the mapping that has @p; NULL: none. */
void *zd_own_start(const void *p);

/*
 * zd_own_ranges - up to @max of them, sorted by address.  Returns how many there are (call
 * again with more room if > @max).
 */
unsigned int zd_own_ranges(struct zd_own_range *out, unsigned int max);

#endif
