/* SPDX-License-Identifier: MIT */
/* The shadow table: entries, the directory, walking and trimming. */
#include "tests/unit/unit_test.h"

#include "space/table.h"

#define GIB	(UINT64_C(1) << 30)

static void entries(void **state)
{
	zd_pfn_t pfn = (UINT64_C(1) << ZD_PFN_BITS) - 1;
	uint64_t s = 10000000000;
	zd_entry_t e = zd_entry_device(pfn, 0xfffff);

	(void)state;
	assert_int_equal(zd_entry_state(e), ZD_ENTRY_DEVICE);
	assert_int_equal(zd_entry_val(e), pfn);
	assert_int_equal(zd_entry_age(e), 0xfffff);
	assert_false(e & (ZD_ENTRY_LOCK | ZD_ENTRY_WAIT | ZD_ENTRY_HOT));
	e = zd_entry_device(1, 0x123456);	/* an age wraps, and spills nowhere */
	assert_int_equal(zd_entry_age(e), 0x23456);
	assert_int_equal(zd_entry_val(e), 1);
	e = zd_entry_present(pfn, true);
	assert_int_equal(zd_entry_state(e), ZD_ENTRY_PRESENT);
	assert_int_equal(zd_entry_val(e), pfn);
	assert_true(e & ZD_ENTRY_HOT);
	assert_false(zd_entry_present(5, false) & ZD_ENTRY_HOT);
	assert_int_equal(zd_entry_state(0), ZD_ENTRY_NONE);

	/* what a madvise takes may be moved only much later */
	e = zd_entry_going(s);
	assert_int_equal(zd_entry_state(e), ZD_ENTRY_GOING);
	assert_false(zd_entry_is_free(e, s));
	assert_false(zd_entry_is_free(e, s + 5000000000));
	assert_true(zd_entry_is_free(e, s + 20000000000));
	assert_false(zd_entry_is_free(e | ZD_ENTRY_LOCK, s + 20000000000));
	assert_true(zd_entry_is_free(0, s));
	assert_false(zd_entry_is_free(ZD_ENTRY_LOCK, s));
	assert_false(zd_entry_is_free(ZD_ENTRY_REMOVED, s + 20000000000));
	assert_false(zd_entry_is_free(zd_entry_device(1, 0), s + 20000000000));
}

static void reserve(void **state)
{
	struct zd_table t;
	long before;

	(void)state;
	assert_int_equal(zd_table_init(&t), 0);
	assert_int_equal(zd_table_reserve(&t, 0, 0), -ERANGE);
	assert_int_equal(zd_table_reserve(&t, GIB, GIB), -ERANGE);
	assert_int_equal(zd_table_reserve(&t, GIB, GIB - 4096), -ERANGE);
	assert_int_equal(zd_table_reserve(&t, 0, (UINT64_C(1) << ZD_VA_BITS) + 1), -ERANGE);
	/* the last byte of the address space */
	assert_int_equal(zd_table_reserve(&t, (UINT64_C(1) << ZD_VA_BITS) - 4096,
					  UINT64_C(1) << ZD_VA_BITS),
			 0);
	zd_entry_store(zd_table_entry(&t, (UINT64_C(1) << ZD_VA_BITS) - 4096), 9);

	/* what is there stays, what is around it comes */
	assert_int_equal(zd_table_reserve(&t, 5 * GIB + 4096, 5 * GIB + 8192), 0);
	zd_entry_store(zd_table_entry(&t, 5 * GIB + 4096), 7);
	before = rss();
	assert_int_equal(zd_table_reserve(&t, 3 * GIB, 300 * GIB), 0);
	assert_int_equal(*zd_table_entry(&t, 5 * GIB + 4096), 7);
	for (uint64_t a = 3 * GIB; a < 300 * GIB; a += GIB / 2)
		if (a != 5 * GIB)
			assert_int_equal(*zd_table_entry(&t, a), 0);
	if (!SANITIZED)
		assert_true(rss() - before < 4 << 20);	/* 594 MiB of table, lazily */
	assert_int_equal(*zd_table_entry(&t, (UINT64_C(1) << ZD_VA_BITS) - 4096), 9);
	zd_table_destroy(&t);
}

/* Neighbouring entries, over leaf boundaries, are their own. */
static void boundaries(void **state)
{
	struct zd_table t;

	(void)state;
	assert_int_equal(zd_table_init(&t), 0);
	assert_int_equal(zd_table_reserve(&t, GIB - 8192, GIB + 8192), 0);
	for (uint64_t a = GIB - 8192; a < GIB + 8192; a += 4096)
		zd_entry_store(zd_table_entry(&t, a), a);
	for (uint64_t a = GIB - 8192; a < GIB + 8192; a += 4096) {
		assert_int_equal(zd_entry_load(zd_table_entry(&t, a)), a);
		assert_ptr_equal(zd_table_entry(&t, a), zd_table_entry(&t, a + 4095));
	}
	zd_table_destroy(&t);
}

/* next and trim, beside a plain array. */
#define PAGES	2048
#define BASE	(7 * GIB - PAGES / 2 * 4096)	/* across two leaves */

static void walk(void **state)
{
	static uint64_t model[PAGES];
	uint32_t rng = test_seed() | 1;
	struct zd_table t;

	(void)state;
	assert_int_equal(zd_table_init(&t), 0);
	assert_int_equal(zd_table_reserve(&t, BASE, BASE + PAGES * 4096), 0);
	for (int round = 0; round < 2000; round++) {
		unsigned int i = test_rand(&rng) % PAGES, j = i + test_rand(&rng) % (PAGES - i);
		unsigned int k = i;

		switch (test_rand(&rng) % 4) {
		case 0:
			model[i] = 1 + test_rand(&rng);
			zd_entry_store(zd_table_entry(&t, BASE + i * 4096UL), model[i]);
			break;
		case 1:		/* empty, then trim: the neighbours stay */
			for (; k < j; k++) {
				model[k] = 0;
				zd_entry_store(zd_table_entry(&t, BASE + k * 4096UL), 0);
			}
			zd_table_trim(&t, BASE + i * 4096UL, BASE + j * 4096UL);
			break;
		default:
			while (k < j && !model[k])
				k++;
			assert_int_equal(zd_table_next(&t, BASE + i * 4096UL, BASE + j * 4096UL),
					 BASE + k * 4096UL);
		}
		for (k = 0; k < PAGES; k += 1 + round % 7)
			assert_int_equal(*zd_table_entry(&t, BASE + k * 4096UL), model[k]);
	}
	zd_table_destroy(&t);
}

static void trim_gives_back(void **state)
{
	struct zd_table t;
	long full;

	(void)state;
	if (SANITIZED)
		return;
	assert_int_equal(zd_table_init(&t), 0);
	assert_int_equal(zd_table_reserve(&t, 8 * GIB, 16 * GIB), 0);
	for (uint64_t a = 8 * GIB; a < 16 * GIB; a += 4096)
		zd_entry_store(zd_table_entry(&t, a), 1);
	for (uint64_t a = 8 * GIB; a < 16 * GIB; a += 4096)
		zd_entry_store(zd_table_entry(&t, a), 0);
	full = rss();
	zd_table_trim(&t, 8 * GIB, 16 * GIB);
	assert_true(full - rss() > 15 << 20);	/* of 16 MiB */
	zd_table_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries),	   cmocka_unit_test(reserve),
		cmocka_unit_test(boundaries),	   cmocka_unit_test(walk),
		cmocka_unit_test(trim_gives_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
