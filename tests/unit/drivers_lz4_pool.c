/* SPDX-License-Identifier: MIT */
/* The lz4 device: what it takes of RAM, pages that are moved, threads, and a forked child. */
#include "drivers_lz4.h"

#include <dlfcn.h>
#include <pthread.h>

static bool waste_is_small(void)
{
	return stat_of("waste_percent") < 15;
}

static bool nearly_nothing(void)
{
	return stat_of("pool_bytes") < 256 << 10;
}

/* Pages go and come at random, and the pool is never much larger than what is in it. */
static void waste_stays_small(void **state)
{
	uint64_t seed = 99;
	static unsigned int gen[NR];

	(void)state;
	have_pages(NR);
	for (unsigned int i = 0; i < NR; i++)
		contents_fill(pages[i].buf, CONTENTS_TEXT + i % 3, i);
	do_io_ok(dev, ZD_TO_DEVICE, pages, NR);
	assert_true(waste_is_small());
	for (unsigned int round = 0; round < 2; round++) {
		struct zd_io_page *some = calloc(NR, sizeof(*some));
		unsigned int nr = 0;

		for (unsigned int i = 0; i < NR; i++) {
			if (prng(&seed) % 2)
				continue;
			dev->ops->unalloc_pages(dev, 1, &pfns[i]);
			pfns[i] = 0;
		}
		wait_for(waste_is_small);
		for (unsigned int i = 0; i < NR; i++) {
			if (!pfns[i]) {
				assert_int_equal(dev->ops->alloc_pages(dev, 1, &pfns[i]), 1);
				gen[i] = (round + 1) * NR;
				some[nr] = pages[i];
				some[nr].pfn = pages[i].pfn = pfns[i];
				contents_fill(some[nr++].buf, CONTENTS_TEXT + i % 3, i + gen[i]);
			}
		}
		do_io_ok(dev, ZD_TO_DEVICE, some, nr);
		wait_for(waste_is_small);
		free(some);
	}
	assert_true(stat_of("moves") > 0);
	memset(mem, 0xee, NR * ZD_PAGE_SIZE);
	do_io_ok(dev, ZD_FROM_DEVICE, pages, NR);
	for (unsigned int i = 0; i < NR; i++)
		assert_true(holds(&pages[i], CONTENTS_TEXT + i % 3, i + gen[i]));
	give_pages(0, NR);
	wait_for(nearly_nothing);
}

/* ->ram_bytes is what the kernel says, too. */
static void ram_is_counted(void **state)
{
	long before, taken, counted;

	(void)state;
	have_pages(NR);
	for (unsigned int i = 0; i < NR; i++)
		contents_fill(pages[i].buf, CONTENTS_HEAP, i);
	before = rss();
	do_io_ok(dev, ZD_TO_DEVICE, pages, NR);
	taken = rss() - before;
	counted = dev->ops->ram_bytes(dev);
	assert_true(counted > (long)NR * 1000);
	if (!SANITIZED)
		assert_in_range(taken, counted - counted / 10,
				counted + counted / 10 + (256 << 10));
	give_pages(0, NR);
	wait_for(nearly_nothing);
	if (!SANITIZED)
		assert_true(rss() - before < 1 << 20);
}

/* Called in the midst of a load, where the test has something to do there. */
static void (*in_load)(const void *from);

int LZ4_decompress_safe(const char *src, char *dst, int bytes, int capacity)
{
	static int (*real)(const char *src, char *dst, int bytes, int capacity);
	void (*now)(const void *from) = in_load;

	if (!real)
		real = (int (*)(const char *, char *, int, int))dlsym(RTLD_NEXT,
								      "LZ4_decompress_safe");
	in_load = NULL;
	if (now)
		now(src);
	return real(src, dst, bytes, capacity);
}

/* Everything that can be is moved; what is being loaded too, and its place has other bytes. */
static void compact_all(const void *from)
{
	struct zd_lz4_store *store = &((struct zd_lz4 *)dev->private_data)->store;

	zd_mutex_lock(&store->lock);
	while (zd_lz4_objects_compact(&store->objects, 16, zd_lz4_store_moved, store))
		;
	memset((void *)(uintptr_t)from, 0xee, 64);
	zd_mutex_unlock(&store->lock);
}

static void moved_while_it_is_loaded(void **state)
{
	enum { SOME = 2048, MOVED = 1024 };
	struct zd_lz4 *lz4 = dev->private_data;
	const struct zd_lz4_store *store = &lz4->store;
	uint64_t word;

	(void)state;
	zd_lz4_worker_stop(&lz4->worker);	/* it would compact before */
	have_pages(SOME);
	for (unsigned int i = 0; i < SOME; i++)
		contents_fill(pages[i].buf, CONTENTS_HEAP, i);
	do_io_ok(dev, ZD_TO_DEVICE, pages, SOME);
	/* its span has the fewest objects of all */
	for (unsigned int i = 0; i < SOME; i++)
		if (i % 2 || (i > MOVED - 150 && i < MOVED + 150 && i != MOVED))
			give_pages(i, 1);
	word = store->word[zd_device_page_index(dev, pfns[MOVED])];
	memset(pages[MOVED].buf, 0xee, ZD_PAGE_SIZE);
	in_load = compact_all;
	do_io_ok(dev, ZD_FROM_DEVICE, pages + MOVED, 1);
	assert_null(in_load);
	assert_true(store->word[zd_device_page_index(dev, pfns[MOVED])] != word);
	assert_true(holds(&pages[MOVED], CONTENTS_HEAP, MOVED));
	for (unsigned int i = 0; i < SOME; i++)
		if (!(i % 2 || (i > MOVED - 150 && i < MOVED + 150 && i != MOVED)))
			give_pages(i, 1);
}

/* Threads free and take pages, so that the worker always has something to compact, while this one
 * loads pages that are moved under its hands. */
static bool stop;

static void *churn(void *arg)
{
	uint64_t seed = (uintptr_t)arg;
	zd_pfn_t mine[64];
	int got;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		got = dev->ops->alloc_pages(dev, 1 + prng(&seed) % 64, mine);
		for (int i = 0; i < got; i++)
			if (zd_page_init(zd_pfn_to_page(mine[i])))
				abort();
		for (int i = 0; i < got; i++)
			zd_put_page(zd_pfn_to_page(mine[i]));
	}
	return NULL;
}

static void loads_beside_moves(void **state)
{
	uint64_t seed = 5;
	double moves, start;
	enum { SOME = 4096 };
	pthread_t thread[2];

	(void)state;
	stop = false;
	for (uintptr_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, churn, (void *)(i + 11)), 0);
	for (unsigned int round = 0; round < 4; round++) {
		have_pages(SOME);
		for (unsigned int i = 0; i < SOME; i++)
			contents_fill(pages[i].buf, CONTENTS_TEXT + i % 3, i);
		do_io_ok(dev, ZD_TO_DEVICE, pages, SOME);
		/* seven of eight go: the others are moved, and meanwhile read */
		for (unsigned int i = 0; i < SOME; i++)
			if (i % 8)
				give_pages(i, 1);
		moves = stat_of("moves");
		start = now_s();
		for (unsigned int n = 0; n < 400 || stat_of("moves") == moves; n++) {
			unsigned int i = prng(&seed) % (SOME / 8) * 8;

			memset(pages[i].buf, 0xee, ZD_PAGE_SIZE);
			do_io_ok(dev, ZD_FROM_DEVICE, pages + i, 1);
			assert_true(holds(&pages[i], CONTENTS_TEXT + i % 3, i));
			assert_true(now_s() - start < PATIENCE_MS / 1000);
		}
		for (unsigned int i = 0; i < SOME; i += 8)
			give_pages(i, 1);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	wait_for(nearly_nothing);
}

/* A child that goes on with the device: the parent's worker isn't here, and the lock's holder is
 * gone in the midst of what it did.  The first that takes the lock is no batch, but an allocation
 * that finds a freed page.  Broken looks like: tables that are used as they were left. */
static void in_a_child(void)
{
	struct zd_lz4 *lz4 = dev->private_data;
	zd_pfn_t pfn;

	for (unsigned int i = 0; i < ZD_LZ4_CLASSES; i++)
		memset(lz4->store.objects.class[i].group, 0xee,
		       sizeof(lz4->store.objects.class[i].group));
	give_pages(1, 1);
	assert_int_equal(dev->ops->alloc_pages(dev, 1, &pfn), 1);
	assert_int_equal(pfn, pfns[1]);
	contents_fill(pages[1].buf, CONTENTS_TEXT + 1, 1);
	do_io_ok(dev, ZD_TO_DEVICE, pages + 1, 1);
	memset(mem, 0xee, NR * ZD_PAGE_SIZE);
	do_io_ok(dev, ZD_FROM_DEVICE, pages, NR);
	for (unsigned int i = 0; i < NR; i++)
		assert_true(holds(&pages[i], CONTENTS_TEXT + i % 3, i));
	/* a worker of its own, which large batches wait for */
	assert_true(zd_lz4_worker_is_here(&lz4->worker));
	for (unsigned int i = 0; i < NR; i++)
		if (i % 8)
			give_pages(i, 1);
	for (unsigned int i = 0; i < NR; i += 8)
		contents_fill(pages[i].buf, CONTENTS_HEAP, i + 1);
	for (unsigned int i = 0; i < NR; i += 8)
		do_io_ok(dev, ZD_TO_DEVICE, pages + i, 1);
	for (unsigned int i = 0; i < NR; i += 8) {
		memset(pages[i].buf, 0xee, ZD_PAGE_SIZE);
		do_io_ok(dev, ZD_FROM_DEVICE, pages + i, 1);
		assert_true(holds(&pages[i], CONTENTS_HEAP, i + 1));
	}
	wait_for(waste_is_small);
}

/* TSan's runtime starts no threads in the child of a process with threads. */
static void a_child_goes_on(void **state)
{
#ifdef __SANITIZE_THREAD__
	(void)state, (void)in_a_child;
	skip();
#else
	struct zd_lz4 *lz4 = dev->private_data;
	int status;
	pid_t pid;

	(void)state;
	have_pages(NR);
	for (unsigned int i = 0; i < NR; i++)
		contents_fill(pages[i].buf, CONTENTS_TEXT + i % 3, i);
	do_io_ok(dev, ZD_TO_DEVICE, pages, NR);
	zd_mutex_lock(&lz4->store.lock);
	pid = fork();
	if (!pid) {
		alarm(20);
		in_a_child();
		_exit(0);
	}
	zd_mutex_unlock(&lz4->store.lock);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* the parent's is as it was */
	memset(mem, 0xee, NR * ZD_PAGE_SIZE);
	do_io_ok(dev, ZD_FROM_DEVICE, pages, NR);
	for (unsigned int i = 0; i < NR; i++)
		assert_true(holds(&pages[i], CONTENTS_TEXT + i % 3, i));
	give_pages(0, NR);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(waste_stays_small),	     T(ram_is_counted),	 T(loads_beside_moves),
		T(moved_while_it_is_loaded), T(a_child_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
