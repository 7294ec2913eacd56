/* SPDX-License-Identifier: MIT */
/* What is shared between threads: syncs, lanes that run out, and pages that are being
 * punched out. */
#include "pmem_test.h"

#include "drivers/btt/btt.h"
#include "drivers/pmem/pmem.h"

#define A_WHILE_MS	50	/* how long a test waits for what must not happen */

static struct zd_pmem *region;
static uint32_t syncs, finished;
static pthread_t helper;
static bool begun;

static void sleep_ms(unsigned int ms)
{
	usleep(ms * 1000);
}

static void *flush_it(void *arg)
{
	(void)arg;
	assert_int_equal(zd_pmem_rw(region, ZD_PMEM_FLUSH, 0, 0, 0, NULL), 0);
	__atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* The first sync has written back what there was, and isn't done: now another thread
 * stores, and flushes. */
static void in_sync(struct zd_media *m, enum zd_media_event what, uint64_t off, uint64_t len)
{
	(void)m;
	(void)off;
	(void)len;
	if (what != ZD_MEDIA_SYNC)
		return;
	__atomic_add_fetch(&syncs, 1, __ATOMIC_RELAXED);
	if (begun)
		return;
	begun = true;
	assert_int_equal(pthread_create(&helper, NULL, flush_it, NULL), 0);
	sleep_ms(A_WHILE_MS);
	assert_int_equal(__atomic_load_n(&finished, __ATOMIC_ACQUIRE), 0);
}

/* A sync that began before a flush doesn't count for that flush. */
static void test_flush_during_sync(void **state)
{
	const char *path = tmp_path("during");

	(void)state;
	force_persist("PAGE");
	region = open_new(path, 0, MIB);
	assert_non_null(region);
	begun = false;
	syncs = finished = 0;
	zd_media_hook = in_sync;
	assert_int_equal(zd_pmem_rw(region, ZD_PMEM_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(pthread_join(helper, NULL), 0);
	zd_media_hook = NULL;
	assert_int_equal(syncs, 2);
	zd_pmem_close(region);
	unlink(path);
}

/* Many threads, few syncs each: no thread is forgotten, none waits for ever. */
static void *flush_many(void *arg)
{
	char buf[SECTOR] = "";

	(void)arg;
	for (int i = 0; i < 30; i++) {
		assert_int_equal(wr(region, i, 1, buf), 0);
		assert_int_equal(zd_pmem_rw(region, ZD_PMEM_FLUSH, 0, 0, 0, NULL), 0);
	}
	return NULL;
}

static void test_flush_threads(void **state)
{
	const char *path = tmp_path("threads");
	pthread_t t[6];

	(void)state;
	force_persist("PAGE");
	region = open_new(path, 0, MIB);
	assert_non_null(region);
	for (int i = 0; i < 6; i++)
		assert_int_equal(pthread_create(&t[i], NULL, flush_many, NULL), 0);
	for (int i = 0; i < 6; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_true(region->media.sync.completed <= 6 * 30);
	assert_int_equal(region->media.sync.completed, region->media.sync.started);
	zd_pmem_close(region);
	unlink(path);
}

static void *hold_it(void *arg)
{
	zd_pfn_t pfn;

	(void)arg;
	assert_int_equal(zd_pmem_direct_access(region, 10, 1, NULL, &pfn), 1);
	__atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
	zd_put_page(zd_pfn_to_page(pfn));
	return NULL;
}

/* The page has just been punched out, and the range is still announced. */
static void in_punch(struct zd_media *m, enum zd_media_event what, uint64_t off, uint64_t len)
{
	zd_pfn_t pfn;

	(void)m;
	if (what != ZD_MEDIA_STORE || begun || off > 10 * 4096 || off + len < 11 * 4096)
		return;
	begun = true;
	assert_int_equal(pthread_create(&helper, NULL, hold_it, NULL), 0);
	sleep_ms(A_WHILE_MS);
	assert_int_equal(__atomic_load_n(&finished, __ATOMIC_ACQUIRE), 0);
	/* other pages can be had meanwhile */
	assert_int_equal(zd_pmem_direct_access(region, 200, 1, NULL, &pfn), 1);
	zd_put_page(zd_pfn_to_page(pfn));
}

/* No page becomes live while its storage is being given back. */
static void test_hold_during_punch(void **state)
{
	(void)state;
	force_persist(NULL);
	region = open_at("memfd:punch", 0, MIB);
	assert_non_null(region);
	begun = false;
	finished = 0;
	zd_media_hook = in_punch;
	assert_int_equal(zd_pmem_rw(region, ZD_PMEM_DISCARD, 0, 64, 64, NULL), 0);
	zd_media_hook = NULL;
	assert_true(begun);
	assert_int_equal(pthread_join(helper, NULL), 0);
	assert_int_equal(finished, 1);
	zd_pmem_close(region);
}

/* All lanes are in use: the next write waits for one, and gets it. */
static void *write_one(void *arg)
{
	char buf[4096];

	(void)arg;
	stamp(buf, 8, 8, 1);
	assert_int_equal(wr(region, 8, 8, buf), 0);
	__atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void in_write(struct zd_media *m, enum zd_media_event what, uint64_t off, uint64_t len)
{
	(void)m;
	(void)what;
	(void)off;
	(void)len;
	if (begun)
		return;
	begun = true;
	assert_int_equal(pthread_create(&helper, NULL, write_one, NULL), 0);
	sleep_ms(A_WHILE_MS);
	assert_int_equal(__atomic_load_n(&finished, __ATOMIC_ACQUIRE), 0);
}

static void test_no_lane(void **state)
{
	char buf[4096];

	(void)state;
	force_persist(NULL);
	region = open_at("memfd:lanes", ZD_PMEM_BTT, MIB);
	assert_non_null(region);
	region->btt->ring_nr = 1;
	begun = false;
	finished = 0;
	zd_media_hook = in_write;
	stamp(buf, 1000, 8, 1);
	assert_int_equal(wr(region, 1000, 8, buf), 0);
	assert_int_equal(pthread_join(helper, NULL), 0);
	zd_media_hook = NULL;
	assert_int_equal(finished, 1);
	assert_int_equal(region->btt->ring_nr, 1);
	zd_pmem_close(region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flush_during_sync),
		cmocka_unit_test(test_flush_threads),
		cmocka_unit_test(test_hold_during_punch),
		cmocka_unit_test(test_no_lane),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
