/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "space/range.h"

void zd_ranges_destroy(struct zd_ranges *r)
{
	zd_free(r->v);
	memset(r, 0, sizeof(*r));
}

static int grow(struct zd_ranges *r, size_t nr)
{
	size_t cap = r->cap ? r->cap : 32;
	struct zd_range *v;

	if (nr <= r->cap)
		return 0;
	while (cap < nr)
		cap *= 2;
	v = zd_realloc(r->v, cap * sizeof(*v));
	if (!v)
		return -ENOMEM;
	r->v = v;
	r->cap = cap;
	return 0;
}

int zd_ranges_copy(struct zd_ranges *dst, const struct zd_ranges *src)
{
	memset(dst, 0, sizeof(*dst));
	if (!src->nr)
		return 0;
	if (grow(dst, src->nr))
		return -ENOMEM;
	memcpy(dst->v, src->v, src->nr * sizeof(*src->v));
	dst->nr = src->nr;
	return 0;
}

size_t zd_ranges_first(const struct zd_ranges *r, uint64_t addr)
{
	size_t lo = 0, hi = r->nr;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (r->v[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct zd_range *zd_ranges_find(const struct zd_ranges *r, uint64_t addr)
{
	size_t i = zd_ranges_first(r, addr);

	return i < r->nr && r->v[i].start <= addr ? &r->v[i] : NULL;
}

bool zd_ranges_gap(const struct zd_ranges *r, uint64_t *start, uint64_t end, uint64_t *gap_end)
{
	size_t i = zd_ranges_first(r, *start);

	if (i < r->nr && r->v[i].start <= *start)	/* ranges don't touch: a gap follows */
		*start = r->v[i++].end;
	*gap_end = i < r->nr && r->v[i].start < end ? r->v[i].start : end;
	return *start < *gap_end;
}

/* Replace the ranges [i, j) by @nr ranges (at most 2 more than before). */
static int splice(struct zd_ranges *r, size_t i, size_t j, const struct zd_range *new, size_t nr)
{
	size_t tail = r->nr - j;

	if (grow(r, r->nr - (j - i) + nr))
		return -ENOMEM;
	memmove(&r->v[i + nr], &r->v[j], tail * sizeof(*r->v));
	memcpy(&r->v[i], new, nr * sizeof(*new));
	r->nr = i + nr + tail;
	return 0;
}

int zd_ranges_add(struct zd_ranges *r, uint64_t start, uint64_t end)
{
	struct zd_range new = { start, end };
	size_t i = zd_ranges_first(r, start), j;

	/* a neighbour that ends exactly at start merges too */
	if (i > 0 && r->v[i - 1].end == start)
		i--;
	for (j = i; j < r->nr && r->v[j].start <= end; j++) {
		if (r->v[j].start < new.start)
			new.start = r->v[j].start;
		if (r->v[j].end > new.end)
			new.end = r->v[j].end;
	}
	return splice(r, i, j, &new, 1);
}

int zd_ranges_remove(struct zd_ranges *r, uint64_t start, uint64_t end)
{
	struct zd_range left[2];
	size_t i = zd_ranges_first(r, start), j, nr = 0;

	for (j = i; j < r->nr && r->v[j].start < end; j++) {
		if (r->v[j].start < start)
			left[nr++] = (struct zd_range){ r->v[j].start, start };
		if (r->v[j].end > end)
			left[nr++] = (struct zd_range){ end, r->v[j].end };
	}
	if (i == j)
		return 0;
	return splice(r, i, j, left, nr);
}
