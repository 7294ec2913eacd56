/* SPDX-License-Identifier: MIT */
#include "unit_test.h"

#include <pthread.h>
#include <zonedev/pagemap.h>
#include <zonedev/log.h>

static int freed;
static struct zd_page *freed_page;
static struct zd_pagemap map;

static void page_free(struct zd_page *page)
{
	/* Free, and its pagemap still there. */
	assert_int_equal(zd_page_count(page), 0);
	assert_ptr_equal(zd_page_pagemap(page), &map);
	assert_int_equal(zd_page_private(page), 0);
	freed_page = page;
	freed++;
}

static const struct zd_pagemap_ops ops = { .size = sizeof(ops), .page_free = page_free };

static int setup(void **state)
{
	(void)state;
	freed = 0;
	memset(&map, 0, sizeof(map));
	map.type = ZD_MEMORY_DEVICE_PRIVATE;
	map.ops = &ops;
	map.nr_pages = 1000;
	return zd_memremap_pages(&map);
}

static int teardown(void **state)
{
	(void)state;
	return map.priv ? zd_memunmap_pages(&map) : 0;
}

static void test_layout(void **state)
{
	struct zd_page *page = zd_pfn_to_page(map.pfn);

	(void)state;
	assert_int_equal(sizeof(struct zd_page), 16);
	assert_true(map.pfn > 0);
	assert_int_equal(zd_page_to_pfn(page + 7), map.pfn + 7);
	for (int i = 0; i < 1000; i++)
		assert_true(!page[i].refcount && !page[i].pgmap_id && !page[i].word);
}

static void test_life(void **state)
{
	struct zd_page *page = zd_pfn_to_page(map.pfn + 3);

	(void)state;
	assert_false(zd_try_get_page(page));
	zd_page_set_private(page, 0x1234);
	assert_int_equal(zd_page_private(page), 0x1234);
	assert_int_equal(zd_page_init(page), 0);
	assert_int_equal(page->word, 0);
	assert_int_equal(zd_page_count(page), 1);
	assert_ptr_equal(zd_page_pagemap(page), &map);
	assert_int_equal(zd_pagemap_live_pages(&map), 1);
	page->word = 99;

	zd_get_page(page);
	assert_true(zd_try_get_page(page));
	assert_int_equal(zd_page_count(page), 3);
	zd_put_page(page);
	zd_put_page(page);
	assert_int_equal(freed, 0);
	zd_put_page(page);
	assert_int_equal(freed, 1);
	assert_ptr_equal(freed_page, page);
	assert_int_equal(zd_pagemap_live_pages(&map), 0);
	assert_false(zd_try_get_page(page));

	/* And again. */
	assert_int_equal(zd_page_init(page), 0);
	zd_put_page(page);
	assert_int_equal(freed, 2);
}

static void test_no_pagemap(void **state)
{
	(void)state;
	/* After the last page of the map, but in the rounded-up range. */
	assert_int_equal(zd_page_init(zd_pfn_to_page(map.pfn + 1000)), -ENODEV);
	/* Where no range is at all. */
	assert_int_equal(zd_page_init(zd_pfn_to_page(map.pfn + 100000)), -ENODEV);
	assert_int_equal(zd_page_init(zd_pfn_to_page(0)), -ENODEV);
	assert_int_equal(zd_page_count(zd_pfn_to_page(0)), 0);
}

static struct zd_page *p0(void)
{
	return zd_pfn_to_page(map.pfn);
}

/* What the child of warns_with() asserts. */
static void must(bool right)
{
	if (!right)
		_exit(1);
}

static void init_live(void)
{
	must(!zd_page_init(p0()));
	must(zd_page_init(p0()) == -EBUSY);
	must(zd_page_count(p0()) == 1 && zd_pagemap_live_pages(&map) == 1);
	zd_put_page(p0());
	must(freed == 1 && !zd_memunmap_pages_timeout(&map, 0, NULL));
}

/* Of a page that is free: nothing has happened. */
static void put_too_many_of_free(void)
{
	must(!zd_page_init(p0()));
	zd_put_page(p0());
	zd_put_page(p0());
	zd_put_page_refs(p0(), 1024);
	must(freed == 1 && zd_page_count(p0()) == 0);
	must(!zd_page_init(p0()));
	zd_put_page(p0());
	must(freed == 2 && !zd_memunmap_pages_timeout(&map, 0, NULL));
}

/* Of a live one: nobody knows who holds it, and it is never freed. */
static void unpin_of_a_get(void)
{
	struct zd_pagemap_holders h;

	must(!zd_page_init(p0()));
	zd_get_page(p0());
	zd_put_page_refs(p0(), 1024);
	must(zd_page_count(p0()) == ZD_PAGE_SATURATED);
	must(!zd_try_get_page(p0()) && !zd_try_get_page_refs(p0(), 7));
	zd_put_page(p0());
	zd_put_page(p0());
	must(freed == 0 && zd_page_count(p0()) > INT32_MAX);
	must(zd_page_init(p0()) == -EBUSY);
	must(zd_memunmap_pages_timeout(&map, 0, &h) == -ETIMEDOUT && h.nr_pages == 1);
}

static void get_free_then_put(void)
{
	must(!zd_page_init(p0()));
	zd_put_page(p0());
	zd_get_page(p0());
	zd_put_page(p0());
	must(freed == 1 && zd_page_count(p0()) == 0 && !zd_page_init(p0()));
}

static void put_never_live(void)
{
	zd_put_page(p0());
	must(freed == 0 && zd_page_count(p0()) == 0 && !zd_page_init(p0()));
}

static void full(void)
{
	must(!zd_page_init(p0()));
	p0()->refcount = INT32_MAX - 1;	/* as after so many gets */
	must(!zd_try_get_page_refs(p0(), 2) && zd_try_get_page(p0()));
	must(!zd_try_get_page(p0()) && zd_page_count(p0()) == INT32_MAX);
	zd_put_page(p0());
	must(zd_try_get_page_refs(p0(), 1));
	zd_put_page_refs(p0(), INT32_MAX);
	must(freed == 1 && zd_page_count(p0()) == 0);
}

static void over_full(void)
{
	must(!zd_page_init(p0()));
	p0()->refcount = INT32_MAX;
	zd_get_page(p0());
	must(!zd_try_get_page(p0()));
	zd_put_page(p0());
	must(zd_page_count(p0()) == ZD_PAGE_SATURATED && !freed);
}

static void sums_that_wrap(void)
{
	must(!zd_page_init(p0()));
	must(!zd_try_get_page_refs(p0(), UINT32_MAX) && !zd_try_get_page_refs(p0(), INT32_MAX));
	zd_put_page_refs(p0(), UINT32_MAX);
	zd_put_page_refs(p0(), 1u << 31);
	must(zd_page_count(p0()) == 1);
}

static void test_wrong_counts(void **state)
{
	(void)state;
	assert_true(warns_with(init_live, "isn't free: pfn 0x200 count 1"));
	assert_true(warns_with(put_too_many_of_free, "it stays free: pfn 0x200 count -1"));
	assert_true(warns_with(unpin_of_a_get, "never freed: pfn 0x200 count -1022"));
	assert_true(warns_with(get_free_then_put, "it stays free"));
	assert_true(warns_with(put_never_live, "it stays free"));
	assert_true(warns_with(full, "not right: pfn 0x200 count 2147483646"));
	assert_true(warns_with(over_full, "never freed"));
	assert_true(warns_with(sums_that_wrap, "not right: pfn 0x200 count 1"));
#ifdef ZD_PAGE_DEBUG
	assert_true(warns_with(get_free_then_put, "that nobody holds"));
#endif
}

/*
 * Race: lookups (try_get) against free and reuse.  A live page's word says who
 * made it live and how often; a holder must see the same word until it puts.
 * Broken: two frees of one life, a page changing under a holder.
 */
#define PAGES 4
#define OPS (SANITIZED ? 30000 : 150000)

static int owner_lock[PAGES];	/* the "driver's" claim on a free page */
static int inits, frees;
static uint32_t race_seed;

static void race_free(struct zd_page *page)
{
	__atomic_add_fetch(&frees, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&owner_lock[zd_page_to_pfn(page) - map.pfn], 0, __ATOMIC_RELEASE);
}

static void *race_thread(void *arg)
{
	uint32_t rnd = (race_seed + (uintptr_t)arg * 0x9e3779b9) | 1;

	for (int i = 0; i < OPS; i++) {
		uint32_t n = test_rand(&rnd) % PAGES;
		struct zd_page *page = zd_pfn_to_page(map.pfn + n);

		if (zd_try_get_page(page)) {
			uint64_t w = __atomic_load_n(&page->word, __ATOMIC_RELAXED);

			zd_get_page(page);
			zd_put_page(page);
			assert_true(page->pgmap_id & ZD_PAGE_LIVE);
			/* 0: its owner hasn't set it yet. */
			if (w)
				assert_int_equal(__atomic_load_n(&page->word, __ATOMIC_RELAXED), w);
			zd_put_page(page);
		} else if (!__atomic_exchange_n(&owner_lock[n], 1, __ATOMIC_ACQUIRE)) {
			assert_int_equal(zd_page_init(page), 0);
			__atomic_add_fetch(&inits, 1, __ATOMIC_RELAXED);
			__atomic_store_n(&page->word, ((uint64_t)(uintptr_t)arg << 32) + i + 1,
					 __ATOMIC_RELAXED);
			zd_put_page(page);
		}
	}
	return NULL;
}

static void test_race(void **state)
{
	static const struct zd_pagemap_ops race_ops = { .size = sizeof(race_ops),
							.page_free = race_free };
	pthread_t t[3];

	(void)state;
	assert_int_equal(zd_memunmap_pages(&map), 0);
	map.ops = &race_ops;
	assert_int_equal(zd_memremap_pages(&map), 0);
	race_seed = test_seed();
	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, race_thread, (void *)(i + 1)), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_true(inits > 100);
	assert_int_equal(inits, frees);
	assert_int_equal(zd_pagemap_live_pages(&map), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_layout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_pagemap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_race, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
