/* SPDX-License-Identifier: MIT */
/*
 * drivers/lz4/store.c - what is kept of each page of the device.
 *
 * A page has a kind and a word.  The word of a packed page is, from its lowest bit on:
 *
 *	12 bits	length - 1 of its object
 *	40	place of its object
 *	12	how often the object was moved
 *
 * Reading takes no lock, since a thread waits for what is read, and the lock's holder may have
 * lost its CPU: the reader loads the word, decompresses, and loads the word again.  If the word
 * is the same, the object was not moved in between (the count of moves tells the same place from
 * the same place again), so its bytes were not written: then the result is right.  The reader is
 * the only one that has to do with the page, so its kind doesn't change.
 *
 * Freeing takes no lock either: a freed page is pushed on a stack, linked by its descriptor's
 * word, and what the stack has is freed by the next thread that has the lock; most often by the
 * freeing thread itself, which tries.  A page is out of circulation until then.
 *
 * Fork.  Kind and word, which change by one store each, are the truth: a child that finds the lock
 * held by a thread it doesn't have makes the objects' tables anew from them (lock()), whichever call
 * is the first to take the lock.
 * A page between two kinds is ZD_LZ4_LOST.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/lz4/lz4.h"

#define LEN_BITS	12
#define PLACE_BITS	40

#define TIDY_MOVES	16	/* objects, with the lock held */
#define TIDY_MIN_PAGES	8	/* that may be empty, or sparse, however small the pool is */
#define EMPTY_SHARE	64	/* one page in so many may be empty, to be used again */
#define SPARSE_SHARE	32	/* and so many may be what compaction would gain */

static uint64_t make_word(uint64_t place, unsigned int bytes, uint64_t moves)
{
	return (bytes - 1) | place << LEN_BITS | moves << (LEN_BITS + PLACE_BITS);
}

static uint64_t word_place(uint64_t word)
{
	return word >> LEN_BITS & ((1ULL << PLACE_BITS) - 1);
}

static unsigned int word_bytes(uint64_t word)
{
	return (word & ((1U << LEN_BITS) - 1)) + 1;
}

static void count(uint64_t *counter, int64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static uint64_t whole_pages(uint64_t bytes)
{
	return (bytes + ZD_PAGE_SIZE - 1) & ZD_PAGE_MASK;
}

static bool too_empty(const struct zd_lz4_objects *o)
{
	return o->empty_pages > TIDY_MIN_PAGES + o->pages / EMPTY_SHARE;
}

static bool too_sparse(const struct zd_lz4_objects *o)
{
	return o->sparse_pages > TIDY_MIN_PAGES + o->pages / SPARSE_SHARE;
}

/* What others may know without the lock.  With the lock held, as all below that don't say
 * otherwise. */
static void publish(struct zd_lz4_store *store)
{
	const struct zd_lz4_objects *o = &store->objects;
	uint64_t bytes = o->pages * ZD_PAGE_SIZE + zd_lz4_objects_tables(o) +
			 whole_pages(store->top * sizeof(*store->kind)) +
			 whole_pages(store->top * sizeof(*store->word));
	bool full = o->pages + ZD_LZ4_SPAN_PAGES > o->max_pages && !o->empty_pages &&
		    !o->sparse_pages;

	__atomic_store_n(&store->ram_bytes, bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&store->pool_bytes, o->pages * ZD_PAGE_SIZE, __ATOMIC_RELAXED);
	__atomic_store_n(&store->moves, o->moves, __ATOMIC_RELAXED);
	__atomic_store_n(&store->full, full, __ATOMIC_RELAXED);
	__atomic_store_n(&store->untidy, too_empty(o) || too_sparse(o), __ATOMIC_RELAXED);
}

/* The page has nothing any more. */
static void drop(struct zd_lz4_store *store, uint64_t index, enum zd_lz4_kind kind)
{
	enum zd_lz4_kind was = store->kind[index];
	uint64_t word = store->word[index];

	__atomic_store_n(&store->kind[index], kind, __ATOMIC_RELAXED);
	if (was == ZD_LZ4_SAME) {
		count(&store->counts.same, -1);
	} else if (was == ZD_LZ4_PACKED) {
		zd_lz4_object_put(&store->objects, word_place(word));
		count(&store->counts.packed, -1);
		count(&store->counts.bytes, -(int64_t)word_bytes(word));
	}
}

static void drain(struct zd_lz4_store *store)
{
	/* Acquire: pairs with the release in zd_lz4_store_free(). */
	uint64_t link = __atomic_exchange_n(&store->freed, 0, __ATOMIC_ACQUIRE), index;

	for (; link; zd_pool_free(&store->indexes, index)) {
		index = link - 1;
		link = zd_page_private(zd_pfn_to_page(store->dev->pgmap.pfn + index));
		drop(store, index, ZD_LZ4_NEW);
	}
}

/* The lost thread was anywhere under the lock. */
static void rebuild(struct zd_lz4_store *store)
{
	struct zd_lz4_counts *counts = &store->counts;

	zd_lz4_objects_forget(&store->objects);
	counts->packed = counts->same = counts->bytes = 0;
	for (uint64_t i = 0; i < store->top; i++) {
		if (store->kind[i] == ZD_LZ4_SAME) {
			counts->same++;
		} else if (store->kind[i] == ZD_LZ4_PACKED) {
			zd_lz4_objects_keep(&store->objects, word_place(store->word[i]));
			counts->packed++;
			counts->bytes += word_bytes(store->word[i]);
		}
	}
	zd_lz4_objects_sort(&store->objects);
}

static void lock(struct zd_lz4_store *store)
{
	if (zd_mutex_lock(&store->lock))
		rebuild(store);
	drain(store);
}

/* What was freed while this thread had the lock is freed now, or by the next holder. */
static void unlock(struct zd_lz4_store *store)
{
	do {
		publish(store);
		zd_mutex_unlock(&store->lock);
		if (!__atomic_load_n(&store->freed, __ATOMIC_RELAXED) ||
		    !zd_mutex_trylock(&store->lock))
			return;
		drain(store);
	} while (true);
}

/* Any thread; waits for the pool's lock alone, unless something is to be freed first. */
unsigned int zd_lz4_store_alloc(struct zd_lz4_store *store, unsigned int nr, zd_pfn_t *pfns)
{
	if (__atomic_load_n(&store->freed, __ATOMIC_RELAXED)) {
		lock(store);
		unlock(store);
	}
	/* Nobody knows yet what the pages will need: full is when not one more span is to be had. */
	if (__atomic_load_n(&store->full, __ATOMIC_RELAXED))
		return 0;
	return zd_pool_alloc(&store->indexes, nr, store->dev->pgmap.pfn, pfns);
}

bool zd_lz4_store_free(struct zd_lz4_store *store, struct zd_page *page)
{
	uint64_t link = zd_device_page_index(store->dev, zd_page_to_pfn(page)) + 1;
	uint64_t head = __atomic_load_n(&store->freed, __ATOMIC_RELAXED);

	do {
		zd_page_set_private(page, head);
		/* Release: pairs with the acquire in drain(). */
	} while (!__atomic_compare_exchange_n(&store->freed, &head, link, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	/* In a forked child that hasn't adopted the store, the tables may be half changed. */
	if (__atomic_load_n(&store->generation, __ATOMIC_RELAXED) != zd_fork_generation ||
	    !zd_mutex_trylock(&store->lock))
		return false;
	drain(store);
	unlock(store);
	return __atomic_load_n(&store->untidy, __ATOMIC_RELAXED);
}

/* --- storing --- */

static void set(struct zd_lz4_store *store, uint64_t index, enum zd_lz4_kind kind, uint64_t word)
{
	if (index >= store->top)
		store->top = index + 1;
	__atomic_store_n(&store->word[index], word, __ATOMIC_RELAXED);
	/* Release: a child must not find the kind without its word. */
	__atomic_store_n(&store->kind[index], kind, __ATOMIC_RELEASE);
}

void zd_lz4_store_moved(void *arg, uint32_t index, uint64_t place)
{
	struct zd_lz4_store *store = arg;
	uint64_t word = store->word[index];

	__atomic_store_n(&store->word[index],
			 make_word(place, word_bytes(word), (word >> (LEN_BITS + PLACE_BITS)) + 1),
			 __ATOMIC_RELEASE);
}

/* Put in codec->out's @bytes.  False: there is no room. */
static bool pack(struct zd_lz4_store *store, struct zd_lz4_codec *codec, uint64_t index,
		 unsigned int bytes)
{
	uint64_t place = zd_lz4_object_get(&store->objects, bytes, index);

	if (place == ZD_LZ4_NO_PLACE &&
	    zd_lz4_objects_compact(&store->objects, TIDY_MOVES, zd_lz4_store_moved, store))
		place = zd_lz4_object_get(&store->objects, bytes, index);
	if (place == ZD_LZ4_NO_PLACE)
		return false;
	memcpy(zd_lz4_object(&store->objects, place), codec->out, bytes);
	set(store, index, ZD_LZ4_PACKED, make_word(place, bytes, 0));
	count(&store->counts.packed, 1);
	count(&store->counts.bytes, bytes);
	return true;
}

int zd_lz4_store_put(struct zd_lz4_store *store, struct zd_lz4_codec *codec, uint64_t index,
		     const void *page)
{
	bool stored = true, same;
	unsigned int bytes = 0;
	uint64_t word;

	same = zd_lz4_page_is_same(page, &word);
	if (!same)
		bytes = zd_lz4_compress(codec, page);
	lock(store);
	drop(store, index, ZD_LZ4_LOST);
	if (same) {
		set(store, index, ZD_LZ4_SAME, word);
		count(&store->counts.same, 1);
	} else if (bytes) {
		stored = pack(store, codec, index, bytes);
		count(&store->counts.no_room, !stored);
	} else {
		stored = false;
		count(&store->counts.refused, 1);
	}
	unlock(store);
	return stored ? 0 : -ENOSPC;
}

/* --- loading: without the lock --- */

int zd_lz4_store_get(struct zd_lz4_store *store, uint64_t index, void *page)
{
	enum zd_lz4_kind kind = __atomic_load_n(&store->kind[index], __ATOMIC_ACQUIRE);
	uint64_t word, again = __atomic_load_n(&store->word[index], __ATOMIC_ACQUIRE);
	bool whole;

	if (kind == ZD_LZ4_NEW || kind == ZD_LZ4_SAME) {
		zd_lz4_page_fill(page, kind == ZD_LZ4_SAME ? again : 0);
		return 0;
	}
	if (kind != ZD_LZ4_PACKED)
		return -EIO;
	do {
		word = again;
		whole = zd_lz4_decompress(zd_lz4_object(&store->objects, word_place(word)),
					  word_bytes(word), page);
		/* Pairs with the release fence in slot_get() (objects.c). */
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		again = __atomic_load_n(&store->word[index], __ATOMIC_ACQUIRE);
	} while (again != word);
	return whole ? 0 : -EIO;
}

/* --- tidying up --- */

/* Empty spans first: then there are enough of them when objects have been moved. */
bool zd_lz4_store_tidy(struct zd_lz4_store *store)
{
	struct zd_lz4_run run = { 0 };

	if (!__atomic_load_n(&store->untidy, __ATOMIC_RELAXED))
		return false;
	lock(store);
	if (too_empty(&store->objects))
		run = zd_lz4_objects_take_empty(&store->objects);
	else if (too_sparse(&store->objects))
		zd_lz4_objects_compact(&store->objects, TIDY_MOVES, zd_lz4_store_moved, store);
	unlock(store);
	if (run.pages)
		zd_lz4_objects_release(&store->objects, run);
	return true;
}

/* --- the life of it --- */

int zd_lz4_store_init(struct zd_lz4_store *store, struct zd_device *dev, uint64_t nr_pages,
		      uint64_t max_pages)
{
	int ret;

	store->dev = dev;
	store->nr_pages = nr_pages;
	store->generation = zd_fork_generation;
	/* the lowest first: then few pages of the tables are used */
	ret = zd_pool_init(&store->indexes, nr_pages, ZD_POOL_COMPACT, UINT64_MAX, false);
	if (ret)
		return ret;
	ret = zd_lz4_objects_init(&store->objects, max_pages);
	if (ret)
		return ret;
	store->kind = zd_reserve(nr_pages * sizeof(*store->kind));
	store->word = zd_reserve(nr_pages * sizeof(*store->word));
	return store->kind && store->word ? 0 : -ENOMEM;
}

void zd_lz4_store_exit(struct zd_lz4_store *store)
{
	zd_unreserve(store->word, store->nr_pages * sizeof(*store->word));
	zd_unreserve(store->kind, store->nr_pages * sizeof(*store->kind));
	zd_lz4_objects_exit(&store->objects);
	zd_pool_exit(&store->indexes);
}

void zd_lz4_store_adopt(struct zd_lz4_store *store)
{
	lock(store);
	__atomic_store_n(&store->generation, zd_fork_generation, __ATOMIC_RELAXED);
	unlock(store);
}
