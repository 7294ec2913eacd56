/* SPDX-License-Identifier: MIT */
/*
 * drivers/pool.c - the free-page allocator of the drivers.
 *
 * Invariants, all under pool->lock:
 *	touched[w]	<=> used has a bit in word w
 *	idle[i][w]	 => not touched[w], not idle[!i][w]
 *	nr_idle		 == number of bits in both
 *	nr_free		 == nr_usable - number of bits in used below nr_usable
 * A word that is being punched has all its bits in used, so it is touched, is
 * not idle, and can't be given out.
 *
 * Every search is a few loads (bits.h), so the lock is held for a time that
 * grows with the pages asked for and not with the size of the device.  Only
 * zd_pool_alloc_run() looks at each free run that is too short.
 */
#include "drivers/pool.h"

#include <errno.h>
#include <string.h>

#include "base/bug.h"

int zd_pool_init(struct zd_pool *pool, uint64_t nr_pages, enum zd_pool_policy policy, uint64_t kick,
		 bool aging)
{
	uint64_t words = nr_pages / 64 + (nr_pages % 64 != 0);
	int ret;

	memset(pool, 0, sizeof(*pool));
	pool->policy = policy;
	pool->aging = aging;
	pool->nr_pages = nr_pages;
	pool->nr_usable = nr_pages;
	pool->nr_free = nr_pages;
	/* A small device must not hold on to all that it was ever given. */
	pool->kick = kick < words / 8 ? kick : words / 8;
	if (!pool->kick)
		pool->kick = 1;

	ret = zd_bits_init(&pool->used, ZD_BITS_FIND_CLEAR, nr_pages);
	if (!ret)
		ret = zd_bits_init(&pool->touched, ZD_BITS_FIND_CLEAR, words);
	for (int i = 0; i < 2 && !ret; i++)
		ret = zd_bits_init(&pool->idle[i], ZD_BITS_FIND_SET, words);
	if (ret)
		zd_pool_exit(pool);
	return ret;
}

void zd_pool_exit(struct zd_pool *pool)
{
	zd_bits_exit(&pool->idle[1]);
	zd_bits_exit(&pool->idle[0]);
	zd_bits_exit(&pool->touched);
	zd_bits_exit(&pool->used);
}

/* The bits of @word that are pages: not all of the last word. */
static uint64_t valid_mask(const struct zd_pool *pool, uint64_t word)
{
	uint64_t left = pool->nr_pages - word * 64;

	return left >= 64 ? ~0ULL : (1ULL << left) - 1;
}

/* The bits of @word that are pages which may be given out. */
static uint64_t usable_mask(const struct zd_pool *pool, uint64_t word)
{
	if (word * 64 >= pool->nr_usable)
		return 0;
	return pool->nr_usable - word * 64 >= 64 ? ~0ULL :
						   (1ULL << (pool->nr_usable - word * 64)) - 1;
}

static uint64_t low_bits(unsigned int nr)
{
	return nr >= 64 ? ~0ULL : (1ULL << nr) - 1;
}

static void unidle(struct zd_pool *pool, uint64_t word)
{
	for (int i = 0; i < 2; i++) {
		if (zd_bits_test(&pool->idle[i], word)) {
			zd_bits_clear(&pool->idle[i], word);
			pool->nr_idle--;
		}
	}
}

/* Give out up to @nr free pages of the run that starts at @page, which is
 * free, without leaving its word.  Stores them and returns how many.  Called with pool->lock
 * held, as all static functions here. */
static unsigned int take_run(struct zd_pool *pool, uint64_t page, unsigned int nr, uint64_t base,
			     uint64_t *out)
{
	uint64_t word = page / 64;
	unsigned int bit = page % 64, run, i;
	uint64_t free = ~zd_bits_word(&pool->used, word) & usable_mask(pool, word);
	uint64_t from_bit = free >> bit;

	run = ~from_bit ? (unsigned int)__builtin_ctzll(~from_bit) : 64;
	if (run > nr)
		run = nr;
	zd_bits_or(&pool->used, word, low_bits(run) << bit);
	zd_bits_set(&pool->touched, word);
	unidle(pool, word);
	pool->nr_free -= run;
	pool->cursor = page + run;
	for (i = 0; i < run; i++)
		out[i] = base + page + i;
	return run;
}

/* As many pages as wholly free words have, from the cursor on and around. */
static unsigned int take_free_words(struct zd_pool *pool, unsigned int nr, uint64_t base,
				    uint64_t *out)
{
	unsigned int got = 0;
	uint64_t word;

	/* First what is left of the word that the cursor is in. */
	if (pool->cursor % 64 && pool->cursor < pool->nr_usable &&
	    !zd_bits_test(&pool->used, pool->cursor))
		got += take_run(pool, pool->cursor, nr, base, out);

	while (got < nr) {
		word = zd_bits_find(&pool->touched, (pool->cursor + 63) / 64);
		if (word * 64 >= pool->nr_usable)
			word = zd_bits_find(&pool->touched, 0);
		if (word * 64 >= pool->nr_usable)
			break;
		got += take_run(pool, word * 64, nr - got, base, out + got);
	}
	return got;
}

unsigned int zd_pool_alloc(struct zd_pool *pool, unsigned int nr, uint64_t base, uint64_t *out)
{
	unsigned int got = 0;
	uint64_t page;

	zd_mutex_lock(&pool->lock);
	if (pool->policy == ZD_POOL_RUNS)
		got = take_free_words(pool, nr, base, out);
	else
		pool->cursor = 0;
	while (got < nr && pool->nr_free) {
		page = zd_bits_find(&pool->used, pool->cursor);
		if (page >= pool->nr_usable)
			page = zd_bits_find(&pool->used, 0);
		ZD_BUG_ON(page >= pool->nr_usable, "pool: %llu pages free and none found",
			  (unsigned long long)pool->nr_free);
		got += take_run(pool, page, nr - got, base, out + got);
	}
	zd_mutex_unlock(&pool->lock);
	return got;
}

#define GOOD_TRIES	16	/* a medium that has lost a great part must not keep its server busy */

unsigned int zd_pool_alloc_good(struct zd_pool *pool, unsigned int nr, uint64_t base, uint64_t *out,
				bool (*is_bad)(void *arg, uint64_t index), void *arg,
				uint64_t *nr_bad)
{
	unsigned int good = 0, bad, n;

	for (int tries = 0; good < nr && tries < GOOD_TRIES; tries++) {
		uint64_t *found = out + good;

		n = zd_pool_alloc(pool, nr - good, base, found);
		if (!n)
			break;
		bad = 0;
		for (unsigned int i = 0; i < n; i++) {
			if (is_bad && is_bad(arg, found[i] - base))
				bad++;
			else
				out[good++] = found[i];
		}
		if (bad)
			__atomic_add_fetch(nr_bad, bad, __ATOMIC_RELAXED);
	}
	return good;
}

/* The first used page in [from, to), or @to. */
static uint64_t first_used(const struct zd_pool *pool, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t bits = zd_bits_word(&pool->used, from / 64) >> (from % 64);

		if (bits) {
			from += __builtin_ctzll(bits);
			break;
		}
		from = (from | 63) + 1;
	}
	return from < to ? from : to;
}

/* The first run of @nr free pages at @from or above; nr_usable: none. */
static uint64_t find_run(const struct zd_pool *pool, uint64_t from, uint64_t nr)
{
	uint64_t page = zd_bits_find(&pool->used, from), end;

	while (page < pool->nr_usable && nr <= pool->nr_usable - page) {
		end = first_used(pool, page, page + nr);
		if (end == page + nr)
			return page;
		page = zd_bits_find(&pool->used, end);
	}
	return pool->nr_usable;
}

bool zd_pool_alloc_run(struct zd_pool *pool, uint64_t nr, uint64_t *first)
{
	uint64_t page, at, end;
	bool found;

	zd_mutex_lock(&pool->lock);
	page = find_run(pool, pool->policy == ZD_POOL_RUNS ? pool->cursor : 0, nr);
	if (page == pool->nr_usable)
		page = find_run(pool, 0, nr);
	found = page < pool->nr_usable;
	for (at = page, end = page + nr; found && at < end; at = (at | 63) + 1) {
		uint64_t in_word = end - at < 64 - at % 64 ? end - at : 64 - at % 64;

		zd_bits_or(&pool->used, at / 64, low_bits(in_word) << (at % 64));
		zd_bits_set(&pool->touched, at / 64);
		unidle(pool, at / 64);
	}
	if (found) {
		pool->nr_free -= nr;
		pool->cursor = end;
		*first = page;
	}
	zd_mutex_unlock(&pool->lock);
	return found;
}

bool zd_pool_free(struct zd_pool *pool, uint64_t index)
{
	uint64_t word = index / 64;
	bool kick = false;

	ZD_BUG_ON(index >= pool->nr_pages, "pool: page %llu of %llu freed",
		  (unsigned long long)index, (unsigned long long)pool->nr_pages);
	zd_mutex_lock(&pool->lock);
	ZD_BUG_ON(!zd_bits_test(&pool->used, index), "pool: page %llu freed twice",
		  (unsigned long long)index);
	zd_bits_clear(&pool->used, index);
	pool->nr_free += index < pool->nr_usable;
	if (!zd_bits_word(&pool->used, word)) {
		zd_bits_clear(&pool->touched, word);
		zd_bits_set(&pool->idle[pool->aging], word);
		kick = ++pool->nr_idle == pool->kick;
	}
	zd_mutex_unlock(&pool->lock);
	return kick;
}

void zd_pool_age(struct zd_pool *pool)
{
	struct zd_bits old;

	zd_mutex_lock(&pool->lock);
	old = pool->idle[0];
	pool->idle[0] = pool->idle[1];
	pool->idle[1] = old;
	zd_mutex_unlock(&pool->lock);
}

uint64_t zd_pool_take_idle(struct zd_pool *pool, unsigned int max_words, uint64_t *first)
{
	const struct zd_bits *old = &pool->idle[0];
	uint64_t reserve, pages = 0, word, mask;

	zd_mutex_lock(&pool->lock);
	reserve = pool->nr_usable / 8;
	word = zd_bits_find(old, 0);
	*first = word * 64;
	while (max_words-- && word < old->nr && zd_bits_test(old, word)) {
		mask = valid_mask(pool, word);
		/* An allocation must not find the device full because its free
		 * pages are being punched: leave an eighth alone. */
		if (usable_mask(pool, word) && pool->nr_free < reserve + 64)
			break;
		zd_bits_or(&pool->used, word, mask);
		zd_bits_set(&pool->touched, word);
		unidle(pool, word);
		pool->nr_free -= __builtin_popcountll(mask & usable_mask(pool, word));
		pages += __builtin_popcountll(mask);
		word++;
	}
	zd_mutex_unlock(&pool->lock);
	return pages;
}

void zd_pool_return_idle(struct zd_pool *pool, uint64_t first, uint64_t nr)
{
	uint64_t word, last = (first + nr - 1) / 64;

	zd_mutex_lock(&pool->lock);
	for (word = first / 64; word <= last; word++) {
		uint64_t mask = valid_mask(pool, word);

		ZD_BUG_ON(zd_bits_word(&pool->used, word) != mask,
			  "pool: word %llu returned but not taken", (unsigned long long)word);
		zd_bits_andnot(&pool->used, word, mask);
		zd_bits_clear(&pool->touched, word);
		pool->nr_free += __builtin_popcountll(mask & usable_mask(pool, word));
	}
	zd_mutex_unlock(&pool->lock);
}

bool zd_pool_punch(struct zd_pool *pool, unsigned int max_words,
		   void (*punch)(void *arg, uint64_t first, uint64_t nr), void *arg)
{
	uint64_t first, nr = 0;

	while (max_words && (nr = zd_pool_take_idle(pool, max_words, &first))) {
		punch(arg, first, nr);
		zd_pool_return_idle(pool, first, nr);
		max_words -= (nr + ZD_POOL_WORD_PAGES - 1) / ZD_POOL_WORD_PAGES;
	}
	if (!nr)
		zd_pool_age(pool);
	return nr;
}

/* The free pages of the words from that of page @from to that of page @to - 1 which may be given
 * out. */
static uint64_t count_free(const struct zd_pool *pool, uint64_t from, uint64_t to)
{
	uint64_t nr = 0;

	for (uint64_t word = from / 64; word * 64 < to; word++)
		nr += __builtin_popcountll(~zd_bits_word(&pool->used, word) &
					   usable_mask(pool, word));
	return nr;
}

void zd_pool_resize(struct zd_pool *pool, uint64_t nr_usable)
{
	uint64_t from, to, before;

	ZD_BUG_ON(!nr_usable || nr_usable > pool->nr_pages, "pool: %llu pages of %llu usable",
		  (unsigned long long)nr_usable, (unsigned long long)pool->nr_pages);
	zd_mutex_lock(&pool->lock);
	from = nr_usable < pool->nr_usable ? nr_usable : pool->nr_usable;
	to = nr_usable < pool->nr_usable ? pool->nr_usable : nr_usable;
	before = count_free(pool, from, to);
	pool->nr_usable = nr_usable;
	pool->nr_free += count_free(pool, from, to) - before;
	if (pool->cursor > nr_usable)
		pool->cursor = 0;
	zd_mutex_unlock(&pool->lock);
}

uint64_t zd_pool_idle_words(struct zd_pool *pool)
{
	uint64_t nr;

	zd_mutex_lock(&pool->lock);
	nr = pool->nr_idle;
	zd_mutex_unlock(&pool->lock);
	return nr;
}

uint64_t zd_pool_free_pages(struct zd_pool *pool)
{
	uint64_t nr;

	zd_mutex_lock(&pool->lock);
	nr = pool->nr_free;
	zd_mutex_unlock(&pool->lock);
	return nr;
}
