/* SPDX-License-Identifier: MIT */
/*
 * drivers/pool.h - which pages of a device are free.
 *
 * One bit a page, shared by the drivers.  Page numbers are indexes into the
 * device, 0 .. nr_pages - 1.  Every call may be made by any thread; none
 * mallocs; each holds pool->lock for a few loads and stores (but zd_pool_resize()),
 * never across a system call.
 *
 * Giving memory back.  When the last used page of a word (64 pages, 256 KiB)
 * is freed the word becomes "idle": a candidate for a hole.  The driver later
 * takes idle words with zd_pool_take_idle(), punches the hole, and returns the
 * words with zd_pool_return_idle(): free, and not idle again until they have been
 * used.  In between they are neither free nor used: no page whose hole is still
 * being punched can be allocated.  A page that is allocated before its word was
 * taken makes the word not idle.
 *
 * Where memory that is used again soon is worth more than a hole (@aging), a word
 * that becomes idle is young first, and can't be taken: zd_pool_age() makes the
 * young words old.  Called once a period, it spares words that were idle for less
 * than the period.
 */
#ifndef ZD_DRIVERS_POOL_H
#define ZD_DRIVERS_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "drivers/bits.h"

#define ZD_POOL_WORD_PAGES 64

enum zd_pool_policy {
	/* Next fit, whole free words first: long runs, for media where a run
	 * is one transfer. */
	ZD_POOL_RUNS,
	/* Lowest page first: memory that is already backed is used again, for
	 * media where a run buys nothing. */
	ZD_POOL_COMPACT,
};

struct zd_pool {
	struct zd_mutex lock;		/* innermost: nothing is taken inside */
	enum zd_pool_policy policy;
	uint64_t nr_pages;
	uint64_t nr_usable;		/* pages from here on aren't given out */
	uint64_t nr_free;		/* of those below */
	uint64_t cursor;		/* page after the last one given out */
	struct zd_bits used;		/* page: not free */
	struct zd_bits touched;		/* word: not wholly free */
	struct zd_bits idle[2];		/* word: wholly free since its last use: old, young */
	uint64_t nr_idle;		/* words, of both */
	bool aging;			/* words become idle as young ones */
	uint64_t kick;			/* zd_pool_free() tells its caller at this nr_idle */
};

/* @kick: zd_pool_free() returns true when this many words (or an eighth of the
 * device, if that is less) have become idle.  @aging: see above.
 * Returns 0, -EINVAL or -ENOMEM.  zd_pool_exit() may follow a failed init. */
int zd_pool_init(struct zd_pool *pool, uint64_t nr_pages, enum zd_pool_policy policy, uint64_t kick,
		 bool aging);
void zd_pool_exit(struct zd_pool *pool);

/* Take up to @nr free pages; stores @base + index of each.  Returns how many:
 * fewer than @nr only if no other page is free. */
unsigned int zd_pool_alloc(struct zd_pool *pool, unsigned int nr, uint64_t base, uint64_t *out);

/*
 * zd_pool_alloc_good - the same without the pages that @is_bad says are bad, by their index; NULL:
 * none is.  Bad ones stay used for good, and *@nr_bad (__atomic) counts them.  Where many are bad,
 * fewer than @nr may be stored though others are free: later calls find them.
 */
unsigned int zd_pool_alloc_good(struct zd_pool *pool, unsigned int nr, uint64_t base, uint64_t *out,
				bool (*is_bad)(void *arg, uint64_t index), void *arg,
				uint64_t *nr_bad);

/* Take @nr pages in a row (> 0); stores the first one's index.  False: no such run is
 * free. */
bool zd_pool_alloc_run(struct zd_pool *pool, uint64_t nr, uint64_t *first);

/* From now on give out pages below @nr_usable (1 .. nr_pages) only; those above that are used are
 * freed as ever.  pool->lock is held for as long as it takes to look at a bit for each page between
 * the old number and the new: a few ms a TiB. */
void zd_pool_resize(struct zd_pool *pool, uint64_t nr_usable);

/* Give one page back; a page that is already free aborts.  True: idle words
 * have just reached the threshold: the caller sees to it that holes are punched. */
bool zd_pool_free(struct zd_pool *pool, uint64_t index);

/* The young words become old, and old words that were not taken, young. */
void zd_pool_age(struct zd_pool *pool);

/* Take a run of up to @max_words idle words, old ones, out of circulation.  Returns its
 * number of pages and stores the first, or 0 when there is nothing to do or
 * too little would stay free meanwhile for allocations. */
uint64_t zd_pool_take_idle(struct zd_pool *pool, unsigned int max_words, uint64_t *first);

/* Put the @nr pages from @first on, as they were taken, back into circulation. */
void zd_pool_return_idle(struct zd_pool *pool, uint64_t first, uint64_t nr);

/*
 * zd_pool_punch - have up to @max_words idle words, old ones, punched by @punch, run by run;
 * then, if no old one is left, the young words become old.  True: old ones are left.
 * Any thread, no lock held; blocks as @punch does.
 */
bool zd_pool_punch(struct zd_pool *pool, unsigned int max_words,
		   void (*punch)(void *arg, uint64_t first, uint64_t nr), void *arg);

/* Idle words, old and young, and pages that are free (snapshots). */
uint64_t zd_pool_idle_words(struct zd_pool *pool);
uint64_t zd_pool_free_pages(struct zd_pool *pool);

#endif
