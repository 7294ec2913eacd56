/* SPDX-License-Identifier: MIT */
/*
 * The list of bad sectors: ascending ranges in an array.  The list is short, and nearly always
 * empty; most callers look at its @nr, without the lock, and go on.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/media/badblocks.h"

/* Index of the first range that ends above @sector. */
static uint32_t range_above(const struct zd_badblocks *bb, uint64_t sector)
{
	uint32_t lo = 0, hi = bb->nr;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (bb->ranges[mid].end > sector)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static void set_nr(struct zd_badblocks *bb, uint32_t nr)
{
	__atomic_store_n(&bb->nr, nr, __ATOMIC_RELAXED);	/* zd_badblocks_any() */
}

/* Room for @nr ranges.  bb->lock is held.  0 or -ENOMEM. */
static int reserve(struct zd_badblocks *bb, uint32_t nr)
{
	uint32_t capacity = bb->capacity ? bb->capacity : 16;
	struct zd_bad_range *ranges;

	while (capacity < nr)
		capacity *= 2;
	if (capacity == bb->capacity)
		return 0;
	ranges = zd_realloc(bb->ranges, capacity * sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	bb->ranges = ranges;
	bb->capacity = capacity;
	return 0;
}

/* @nr ranges at @at become @with ranges, whose content the caller sets.  bb->lock is held. */
static void replace(struct zd_badblocks *bb, uint32_t at, uint32_t nr, uint32_t with)
{
	memmove(&bb->ranges[at + with], &bb->ranges[at + nr],
		(bb->nr - at - nr) * sizeof(bb->ranges[0]));
	set_nr(bb, bb->nr - nr + with);
}

int zd_badblocks_check(struct zd_badblocks *bb, uint64_t sector, uint64_t nr, uint64_t *first_bad,
		       uint64_t *nr_bad)
{
	uint64_t end = sector + nr, first, last;
	int found = 0;
	uint32_t at;

	if (!nr || !zd_badblocks_any(bb))
		return 0;
	zd_mutex_lock(&bb->lock);
	at = range_above(bb, sector);
	if (at < bb->nr && bb->ranges[at].first < end) {
		found = 1;
		first = bb->ranges[at].first > sector ? bb->ranges[at].first : sector;
		last = bb->ranges[at].end < end ? bb->ranges[at].end : end;
		if (first_bad)
			*first_bad = first;
		if (nr_bad)
			*nr_bad = last - first;
	}
	zd_mutex_unlock(&bb->lock);
	return found;
}

int zd_badblocks_set(struct zd_badblocks *bb, uint64_t sector, uint64_t nr)
{
	struct zd_bad_range r = { sector, sector + nr };
	uint32_t at, n = 0;
	int rc;

	if (!nr)
		return 0;
	zd_mutex_lock(&bb->lock);
	__atomic_add_fetch(&bb->marks, 1, __ATOMIC_RELEASE);
	rc = reserve(bb, bb->nr + 1);
	if (rc)
		goto out;
	at = range_above(bb, sector);
	if (at < bb->nr && bb->ranges[at].first <= sector && bb->ranges[at].end >= r.end)
		goto out;	/* nothing new */
	/* all ranges that overlap or touch the new one become one */
	at = range_above(bb, sector ? sector - 1 : 0);
	while (at + n < bb->nr && bb->ranges[at + n].first <= r.end) {
		const struct zd_bad_range *o = &bb->ranges[at + n++];

		r.first = o->first < r.first ? o->first : r.first;
		r.end = o->end > r.end ? o->end : r.end;
	}
	replace(bb, at, n, 1);
	bb->ranges[at] = r;
	__atomic_add_fetch(&bb->sets, 1, __ATOMIC_RELEASE);
	__atomic_add_fetch(&bb->changes, 1, __ATOMIC_RELEASE);
out:
	zd_mutex_unlock(&bb->lock);
	return rc;
}

int zd_badblocks_clear(struct zd_badblocks *bb, uint64_t sector, uint64_t nr, uint64_t marks)
{
	struct zd_bad_range rest[2];
	uint64_t end = sector + nr;
	uint32_t at, n = 0, nr_rest = 0;
	int rc = 0;

	if (!nr || !zd_badblocks_any(bb))
		return 0;
	zd_mutex_lock(&bb->lock);
	if (marks != ZD_BAD_ALWAYS && marks != bb->marks)
		goto out;
	at = range_above(bb, sector);
	while (at + n < bb->nr && bb->ranges[at + n].first < end)
		n++;
	if (!n)
		goto out;
	/* one range that is cut in the middle becomes two */
	rc = reserve(bb, bb->nr + 1);
	if (rc)
		goto out;
	if (bb->ranges[at].first < sector)
		rest[nr_rest++] = (struct zd_bad_range){ bb->ranges[at].first, sector };
	if (bb->ranges[at + n - 1].end > end)
		rest[nr_rest++] = (struct zd_bad_range){ end, bb->ranges[at + n - 1].end };
	replace(bb, at, n, nr_rest);
	memcpy(&bb->ranges[at], rest, nr_rest * sizeof(rest[0]));
	__atomic_add_fetch(&bb->changes, 1, __ATOMIC_RELEASE);
out:
	zd_mutex_unlock(&bb->lock);
	return rc;
}

int zd_badblocks_copy(struct zd_badblocks *to, struct zd_badblocks *from)
{
	int rc;

	zd_mutex_lock(&from->lock);
	rc = reserve(to, from->nr);
	if (!rc) {
		if (from->nr)
			memcpy(to->ranges, from->ranges, from->nr * sizeof(to->ranges[0]));
		to->nr = from->nr;
		to->sets = from->sets;
		to->marks = from->marks;
		to->changes = from->changes;
	}
	zd_mutex_unlock(&from->lock);
	return rc;
}

void zd_badblocks_exit(struct zd_badblocks *bb)
{
	zd_mutex_lock(&bb->lock);
	zd_free(bb->ranges);
	bb->ranges = NULL;
	bb->capacity = 0;
	set_nr(bb, 0);
	zd_mutex_unlock(&bb->lock);
}
