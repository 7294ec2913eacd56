/* SPDX-License-Identifier: MIT */
/* Stretches of the address space, as a program names them. */
#ifndef ZD_HMM_SPAN_H
#define ZD_HMM_SPAN_H

#include <errno.h>
#include "engine/mm.h"

/* The whole pages inside [addr, addr + len).  0; -EINVAL: there are none.  Any thread. */
static inline int zd_whole_pages(const void *addr, size_t len, uint64_t *start, uint64_t *end)
{
	uint64_t a = (uintptr_t)addr;

	if (a + len < a || a + len > UINT64_C(1) << ZD_VA_BITS)
		return -EINVAL;
	*start = (a + ZD_PAGE_SIZE - 1) & ~(ZD_PAGE_SIZE - 1);
	*end = (a + len) & ~(ZD_PAGE_SIZE - 1);
	return *start < *end ? 0 : -EINVAL;
}

/* Is all of [start, end) managed?  The server's thread. */
static inline bool zd_is_managed(const struct zd_mm *mm, uint64_t start, uint64_t end)
{
	const struct zd_range *r = zd_ranges_find(&mm->ranges, start);

	return r && r->end >= end;
}

#endif
