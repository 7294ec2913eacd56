/* SPDX-License-Identifier: MIT */
/*
 * The table of zonedev's own mappings.
 *
 * Mechanism.  A sorted array, so that a search needs no lock but this file's.
 * There are two arrays: a change is made in the one that isn't in use, and one store of a
 * word, which has the number of ranges and which array has them, puts that array to use.
 *
 * Fork.  Hence a thread that is lost in a change leaves the table as it was.  A mapping
 * is entered after it is made, and taken out before it is unmapped: one may be missing, and
 * none is listed that isn't there.
 *
 * Locks: own_lock, the innermost.  Only mmap(2) and its relatives are called under it, on
 * mappings that no userfaultfd watches.
 */
#include "base/own.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bug.h"
#include "base/lock.h"

#define PAGE		4096UL
/* Each mapping is at least one of the kernel's vm.max_map_count (65530). */
#define MAX_RANGES	65536U

static struct zd_mutex own_lock;
static struct zd_own_range *tables[2];
static uint32_t state;		/* 2 * ranges + which table; under own_lock */

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/* The mapping becomes writable only by the mprotect, and is unlocked before that: under
 * mlockall(MCL_FUTURE) a writable mapping is populated at once. */
static void *map_fenced(size_t len, size_t align, bool sparse)
{
	size_t total = len + align + 2 * PAGE;
	char *raw, *p;
	int saved;

	if (total < len) {
		errno = ENOMEM;
		return NULL;
	}
	raw = mmap(NULL, total, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | (sparse ? MAP_NORESERVE : 0), -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	p = (char *)round_up((uintptr_t)raw + PAGE, align);
	if (sparse)
		munlock(p, len);
	if (mprotect(p, len, PROT_READ | PROT_WRITE)) {
		saved = errno;
		munmap(raw, total);
		errno = saved;
		return NULL;
	}
	if (p - PAGE > raw)
		munmap(raw, p - PAGE - raw);
	if (raw + total > p + len + PAGE)
		munmap(p + len + PAGE, raw + total - (p + len + PAGE));
	return p;
}

static void unmap_fenced(void *p, size_t len)
{
	ZD_BUG_ON(munmap((char *)p - PAGE, len + 2 * PAGE), "munmap %p + %zu: errno %d", p, len,
		  errno);
}

/* --- the table, with own_lock --- */

static struct zd_own_range *ranges(void)
{
	return tables[state & 1];
}

static unsigned int nr_ranges(void)
{
	return state / 2;
}

/* Index of the first range that ends above @addr. */
static unsigned int range_above(const char *addr)
{
	unsigned int lo = 0, hi = nr_ranges();

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		if ((char *)ranges()[mid].start + ranges()[mid].len > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Put @nr_new (0 or 1) ranges in place of the @nr_old from @i on. */
static void replace(unsigned int i, unsigned int nr_old, const struct zd_own_range *new,
		    unsigned int nr_new)
{
	struct zd_own_range *to = tables[!(state & 1)];
	unsigned int nr = nr_ranges() - nr_old + nr_new;

	memcpy(to, ranges(), i * sizeof(*to));
	if (nr_new)
		to[i] = *new;
	memcpy(to + i + nr_new, ranges() + i + nr_old, (nr_ranges() - i - nr_old) * sizeof(*to));
	/* Release: a child's memory that has this store has those above. */
	__atomic_store_n(&state, 2 * nr + !(state & 1), __ATOMIC_RELEASE);
}

/* Map both tables; the first entry is the mapping of the tables.  0 or -ENOMEM. */
static int make_tables(void)
{
	size_t size = MAX_RANGES * sizeof(struct zd_own_range);
	struct zd_own_range both;
	char *p;

	if (tables[1])
		return 0;
	p = map_fenced(2 * size, PAGE, true);
	if (!p)
		return -ENOMEM;
	tables[0] = (struct zd_own_range *)p;
	tables[1] = (struct zd_own_range *)(p + size);
	both = (struct zd_own_range){ p - PAGE, 2 * size + 2 * PAGE };
	replace(0, 0, &both, 1);
	return 0;
}

static int add(char *start, size_t len)
{
	struct zd_own_range r = { start, len };

	if (make_tables() || nr_ranges() == MAX_RANGES)
		return -ENOMEM;
	replace(range_above(start), 0, &r, 1);
	return 0;
}

/* --- */

int zd_own_add(void *start, size_t len)
{
	int err;

	zd_mutex_lock(&own_lock);
	err = add(start, len);
	zd_mutex_unlock(&own_lock);
	return err;
}

void zd_own_grow(void *start, size_t len)
{
	struct zd_own_range r = { start, len };
	unsigned int i;

	zd_mutex_lock(&own_lock);
	i = range_above(start);
	ZD_BUG_ON(i == nr_ranges() || ranges()[i].start != start, "%p isn't zonedev's", start);
	replace(i, 1, &r, 1);
	zd_mutex_unlock(&own_lock);
}

void *zd_own_map(size_t len, size_t align, bool sparse)
{
	char *p = map_fenced(len, align, sparse);

	if (p && zd_own_add(p - PAGE, len + 2 * PAGE)) {
		unmap_fenced(p, len);
		errno = ENOMEM;
		p = NULL;
	}
	return p;
}

void zd_own_unmap(void *p, size_t len)
{
	char *start = (char *)p - PAGE;
	unsigned int i;

	zd_mutex_lock(&own_lock);
	i = range_above(p);
	ZD_BUG_ON(i == nr_ranges() || (char *)ranges()[i].start != start ||
			  ranges()[i].len != len + 2 * PAGE,
		  "%p + %zu isn't a mapping of zonedev's", p, len);
	replace(i, 1, NULL, 0);
	zd_mutex_unlock(&own_lock);
	unmap_fenced(p, len);
}

void *zd_own_start(const void *p)
{
	void *start = NULL;
	unsigned int i;

	zd_mutex_lock(&own_lock);
	i = range_above(p);
	if (i < nr_ranges() && (const char *)ranges()[i].start <= (const char *)p)
		start = ranges()[i].start;
	zd_mutex_unlock(&own_lock);
	return start;
}

bool zd_addr_is_own(const void *p)
{
	return zd_own_start(p);
}

unsigned int zd_own_ranges(struct zd_own_range *out, unsigned int max)
{
	unsigned int n;

	zd_mutex_lock(&own_lock);
	n = nr_ranges();
	if (out && n)
		memcpy(out, ranges(), (n < max ? n : max) * sizeof(*out));
	zd_mutex_unlock(&own_lock);
	return n;
}
