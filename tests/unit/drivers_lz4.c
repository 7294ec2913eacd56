/* SPDX-License-Identifier: MIT */
/* The lz4 device: contents of all kinds, what it refuses, what it takes of RAM, and threads. */
#include "unit_test.h"

#include <dlfcn.h>
#include <pthread.h>

#include "../lib/page_contents.h"
#include "drivers/lz4/lz4.h"
#include "drivers_common.h"
#include "zonedev/lz4.h"

#define NR	16384
#define POOL	16384

static struct zd_device *dev;
static struct zd_io_page *pages;
static zd_pfn_t *pfns;
static char *mem;

static int setup_level(int level)
{
	pages = calloc(NR, sizeof(*pages));
	pfns = calloc(NR, sizeof(*pfns));
	mem = map_pages(NR);
	return zd_lz4_create(4 * NR, POOL, level, &dev);
}

static int setup(void **state)
{
	(void)state;
	return setup_level(ZD_LZ4_LEVEL_FAST);
}

static int setup_hc(void **state)
{
	(void)state;
	return setup_level(9);
}

static int teardown(void **state)
{
	(void)state;
	munmap(mem, NR * ZD_PAGE_SIZE);
	free(pages);
	free(pfns);
	return zd_device_unregister(dev);
}

static double stat_of(const char *name)
{
	struct zd_device_stat stats[32];
	int nr = dev->ops->stats(dev, stats, 32);

	for (int i = 0; i < nr; i++)
		if (!strcmp(stats[i].name, name))
			return stats[i].value;
	fail_msg("no statistic %s", name);
	return 0;
}

static void have_pages(unsigned int nr)
{
	assert_int_equal(dev->ops->alloc_pages(dev, nr, pfns), nr);
	set_pages(pages, pfns, nr, mem);
}

static void give_pages(unsigned int first, unsigned int nr)
{
	dev->ops->unalloc_pages(dev, nr, pfns + first);
}

static bool holds(const struct zd_io_page *page, enum contents kind, uint64_t tag)
{
	char want[ZD_PAGE_SIZE];

	contents_fill(want, kind, tag);
	return !memcmp(page->buf, want, ZD_PAGE_SIZE);
}

static bool is_noise(enum contents kind)
{
	return kind == CONTENTS_RANDOM || kind == CONTENTS_NUMBERS;
}

/* The worker makes the pool smaller by itself; how soon depends on the machine. */
static void wait_for(bool (*reached)(void))
{
	for (unsigned int ms = 0; !reached(); ms++) {
		assert_true(ms < PATIENCE_MS);
		usleep(1000);
	}
}

static bool nothing(void)
{
	return stat_of("pages_same") + stat_of("pages_compressed") == 0;
}

static bool waste_is_small(void)
{
	return stat_of("waste_percent") < 15;
}

static bool nearly_nothing(void)
{
	return stat_of("pool_bytes") < 256 << 10;
}

/* Batches of @batch pages: small ones are run in ->submit, others by the worker. */
static void round_trip(unsigned int batch)
{
	unsigned int nr = 1024 / batch * batch, refused = 0;

	have_pages(nr);
	for (unsigned int i = 0; i < nr; i++)
		contents_fill(pages[i].buf, contents_of(i), i);
	for (unsigned int i = 0; i < nr; i += batch)
		do_io(dev, ZD_TO_DEVICE, pages + i, batch);
	for (unsigned int i = 0; i < nr; i++) {
		/* noise and nothing else is refused, each page alone */
		assert_int_equal(pages[i].error, is_noise(contents_of(i)) ? -ENOSPC : 0);
		refused += pages[i].error != 0;
	}
	assert_int_equal(stat_of("incompressible"), refused);
	assert_int_equal(stat_of("pages_same") + stat_of("pages_compressed"), nr - refused);
	memset(mem, 0xee, nr * ZD_PAGE_SIZE);
	for (unsigned int i = 0; i < nr; i += batch)
		do_io(dev, ZD_FROM_DEVICE, pages + i, batch);
	for (unsigned int i = 0; i < nr; i++) {
		/* never zeros, nor what was there before */
		assert_int_equal(pages[i].error, is_noise(contents_of(i)) ? -EIO : 0);
		if (!pages[i].error)
			assert_true(holds(&pages[i], contents_of(i), i));
	}
	give_pages(0, nr);
	wait_for(nothing);
}

static void one_by_one(void **state)
{
	(void)state;
	round_trip(1);
}

static void in_large_batches(void **state)
{
	(void)state;
	round_trip(128);
}

/* A page that is stored again is as the last store says, whatever it was. */
static void stored_again(void **state)
{
	uint64_t seed = 7;

	(void)state;
	have_pages(64);
	for (unsigned int round = 0; round < 200; round++) {
		unsigned int i = prng(&seed) % 64;
		enum contents kind = contents_of(prng(&seed) % 20);

		contents_fill(pages[i].buf, kind, round);
		do_io(dev, ZD_TO_DEVICE, pages + i, 1);
		assert_int_equal(pages[i].error, is_noise(kind) ? -ENOSPC : 0);
		memset(pages[i].buf, 0xee, ZD_PAGE_SIZE);
		do_io(dev, ZD_FROM_DEVICE, pages + i, 1);
		assert_int_equal(pages[i].error, is_noise(kind) ? -EIO : 0);
		if (!is_noise(kind))
			assert_true(holds(&pages[i], kind, round));
	}
	give_pages(0, 64);
	wait_for(nothing);
}

/* Any word of 8 bytes, not only zeros. */
static void a_repeated_word_takes_no_pool(void **state)
{
	(void)state;
	have_pages(NR);
	for (unsigned int i = 0; i < NR; i++)
		contents_fill(pages[i].buf, i % 2 ? CONTENTS_SAME : CONTENTS_ZERO, i);
	do_io_ok(dev, ZD_TO_DEVICE, pages, NR);
	assert_int_equal(stat_of("pages_same"), NR);
	assert_int_equal(stat_of("pool_bytes"), 0);
	assert_in_range(dev->ops->ram_bytes(dev), NR * 8, NR * 16 + 2 * ZD_PAGE_SIZE);
	memset(mem, 0xee, NR * ZD_PAGE_SIZE);
	do_io_ok(dev, ZD_FROM_DEVICE, pages, NR);
	for (unsigned int i = 0; i < NR; i++)
		assert_true(holds(&pages[i], i % 2 ? CONTENTS_SAME : CONTENTS_ZERO, i));
	give_pages(0, NR);
}

/* max= is a limit; what is over it is refused page by page, and then no page is given out. */
static void full_is_answered(void **state)
{
	enum { MANY = 4096 };
	struct zd_device *small;
	unsigned int stored = 0, before;

	(void)state;
	assert_int_equal(zd_lz4_device_create(2 << 20, 0, &small), 0);
	assert_int_equal(small->ops->alloc_pages(small, MANY, pfns), MANY);
	set_pages(pages, pfns, MANY, mem);
	for (unsigned int i = 0; i < MANY; i++)
		contents_fill(pages[i].buf, CONTENTS_HEAP, i);
	do_io(small, ZD_TO_DEVICE, pages, MANY);
	for (unsigned int i = 0; i < MANY; i++) {
		assert_true(pages[i].error == 0 || pages[i].error == -ENOSPC);
		stored += !pages[i].error;
	}
	assert_in_range(stored, 600, MANY - 1000);
	assert_in_range(small->ops->ram_bytes(small), 15 << 17, (2 << 20) + (256 << 10));
	assert_int_equal(small->ops->alloc_pages(small, 1, &(zd_pfn_t){ 0 }), 0);
	before = stored;
	/* room again */
	small->ops->unalloc_pages(small, MANY, pfns);
	assert_int_equal(small->ops->alloc_pages(small, MANY, pfns), MANY);
	set_pages(pages, pfns, MANY, mem);
	do_io(small, ZD_TO_DEVICE, pages, MANY);
	for (unsigned int i = stored = 0; i < MANY; i++)
		stored += !pages[i].error;
	assert_in_range(stored, before * 9 / 10, MANY);
	small->ops->unalloc_pages(small, MANY, pfns);
	assert_int_equal(zd_device_unregister(small), 0);
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

/* A child that goes on with the device: it has no worker, and the lock's holder is gone in the
 * midst of what it did. */
static void in_a_child(void)
{
	struct zd_lz4 *lz4 = dev->private_data;

	for (unsigned int i = 0; i < ZD_LZ4_CLASSES; i++)
		memset(lz4->store.objects.class[i].group, 0xee,
		       sizeof(lz4->store.objects.class[i].group));
	memset(mem, 0xee, NR * ZD_PAGE_SIZE);
	do_io_ok(dev, ZD_FROM_DEVICE, pages, NR);
	for (unsigned int i = 0; i < NR; i++)
		assert_true(holds(&pages[i], CONTENTS_TEXT + i % 3, i));
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
	/* tidied up by the way */
	assert_true(waste_is_small());
}

static void a_child_goes_on(void **state)
{
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
}

static void wrong_arguments(void **state)
{
	struct zd_device *none;

	(void)state;
	assert_int_equal(zd_lz4_device_create((2 << 20) - 1, 1, &none), -EINVAL);
	assert_int_equal(zd_lz4_device_create(UINT64_C(2) << 40, 1, &none), -EINVAL);
	assert_int_equal(zd_lz4_device_create(0, 13, &none), -EINVAL);
	assert_int_equal(zd_lz4_device_create(0, -1, &none), -EINVAL);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define HC(fn) { #fn " (HC)", fn, setup_hc, teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(one_by_one),
		T(in_large_batches),
		HC(one_by_one),
		HC(in_large_batches),
		T(stored_again),
		T(a_repeated_word_takes_no_pool),
		T(full_is_answered),
		T(waste_stays_small),
		T(ram_is_counted),
		T(loads_beside_moves),
		T(moved_while_it_is_loaded),
		T(a_child_goes_on),
		cmocka_unit_test(wrong_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
