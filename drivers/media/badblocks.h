/* SPDX-License-Identifier: MIT */
/*
 * drivers/media/badblocks.h - a list of sectors: those of a medium that failed, and those
 * that were mended but not durably (media/record.c).
 */
#ifndef ZD_DRIVERS_MEDIA_BADBLOCKS_H
#define ZD_DRIVERS_MEDIA_BADBLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"

struct zd_bad_range {
	uint64_t first, end;		/* sectors */
};

/*
 * Ascending ranges that don't touch.  @lock, a leaf, guards all of it; @nr and the counts
 * may be read without the lock, @nr 0 meaning that there is nothing to look for.
 *
 * @sets: how often a range was added that wasn't there yet.
 * @marks: how often any range was added, known or new.
 * @changes: how often a range was added or taken off.
 */
struct zd_badblocks {
	struct zd_mutex lock;
	uint32_t nr, capacity;
	uint64_t sets, marks, changes;
	struct zd_bad_range *ranges;
};

/*
 * All of these may be called by any thread; all but zd_badblocks_any(), _sets() and _marks()
 * take the lock.
 *
 * zd_badblocks_check - 1: @first_bad and @nr_bad (each may be NULL) are the first run of
 * listed sectors within the range; 0: none of the range is listed.
 * zd_badblocks_set - add the range.  0 or -ENOMEM.
 * zd_badblocks_clear - take the range off, unless @marks isn't zd_badblocks_marks() any more:
 * then what the caller has written there may have been lost again.  ZD_BAD_ALWAYS: in any
 * case.  0, also where nothing was taken off; -ENOMEM.
 * zd_badblocks_copy - make @to, zeroed, what @from is now, counts and all.  0 or -ENOMEM.
 * zd_badblocks_exit - empty the list and free its memory.
 */
int zd_badblocks_check(struct zd_badblocks *bb, uint64_t sector, uint64_t nr, uint64_t *first_bad,
		       uint64_t *nr_bad);
int zd_badblocks_set(struct zd_badblocks *bb, uint64_t sector, uint64_t nr);
#define ZD_BAD_ALWAYS	UINT64_MAX
int zd_badblocks_clear(struct zd_badblocks *bb, uint64_t sector, uint64_t nr, uint64_t marks);
int zd_badblocks_copy(struct zd_badblocks *to, struct zd_badblocks *from);
void zd_badblocks_exit(struct zd_badblocks *bb);

static inline bool zd_badblocks_any(const struct zd_badblocks *bb)
{
	/* relaxed: a failure at this very moment may be seen or not */
	return __atomic_load_n(&bb->nr, __ATOMIC_RELAXED) != 0;
}

/* Acquire, the partner of the release in zd_badblocks_set(): a thread that sees a sector fail
 * lists it before that thread does anything else about it. */
static inline uint64_t zd_badblocks_sets(const struct zd_badblocks *bb)
{
	return __atomic_load_n(&bb->sets, __ATOMIC_ACQUIRE);
}

static inline uint64_t zd_badblocks_marks(const struct zd_badblocks *bb)
{
	return __atomic_load_n(&bb->marks, __ATOMIC_ACQUIRE);
}

#endif
