/* SPDX-License-Identifier: MIT */
/*
 * The managed ranges of one address space: sorted, disjoint, merged where they
 * touch.  Only the server's thread uses the ranges of an address space (other threads look at
 * entries, which needs no range lookup); the scout has a copy.
 */
#ifndef ZD_SPACE_RANGE_H
#define ZD_SPACE_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct zd_range {
	uint64_t start, end;	/* page-aligned addresses, end exclusive */
};

struct zd_ranges {
	struct zd_range *v;
	size_t nr, cap;
};

void zd_ranges_destroy(struct zd_ranges *r);
/* @dst is overwritten.  -ENOMEM: it is empty. */
int zd_ranges_copy(struct zd_ranges *dst, const struct zd_ranges *src);
/* Add [start, end), parts of which may be there already.  -ENOMEM: unchanged. */
int zd_ranges_add(struct zd_ranges *r, uint64_t start, uint64_t end);
/* Take out the parts of [start, end) that are there.  -ENOMEM: unchanged. */
int zd_ranges_remove(struct zd_ranges *r, uint64_t start, uint64_t end);
/* The range that holds @addr, or NULL. */
const struct zd_range *zd_ranges_find(const struct zd_ranges *r, uint64_t addr);
/* Index of the first range that ends above @addr. */
size_t zd_ranges_first(const struct zd_ranges *r, uint64_t addr);
/* The first stretch of [*start, end) that is in no range: [*start, *gap_end), by moving
 * *start up.  False: there is none. */
bool zd_ranges_gap(const struct zd_ranges *r, uint64_t *start, uint64_t end, uint64_t *gap_end);

#endif
