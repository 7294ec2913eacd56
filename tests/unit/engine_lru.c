/* SPDX-License-Identifier: MIT */
/* Eviction order: FIFO, second chance, refault distance, leftovers. */
#include "tests/unit/unit_test.h"

#include "base/alloc.h"
#include "engine/lru.h"

#define GIB	(UINT64_C(1) << 30)
#define AT(i)	(GIB + (uint64_t)(i) * 4096)
#define PAGES	262144
#define SLOT	0xfedc

static struct zd_lru lru;
static struct zd_table table;
static bool died;

static const struct zd_table *table_of(void *ctx, unsigned int slot)
{
	assert_ptr_equal(ctx, &lru);
	assert_int_equal(slot, SLOT);
	return died ? NULL : &table;
}

static int setup(void **state)
{
	(void)state;
	memset(&lru, 0, sizeof(lru));
	memset(&table, 0, sizeof(table));
	died = false;
	if (zd_table_init(&table))
		return -1;
	return zd_table_reserve(&table, GIB, 2 * GIB);
}

static int teardown(void **state)
{
	(void)state;
	zd_lru_destroy(&lru);
	zd_table_destroy(&table);
	assert_int_equal(lru.fifo[0].runs + lru.fifo[1].runs, 0);
	return 0;
}

/* The page leaves RAM, as zd_out_start() does it. */
static void leave(int i)
{
	zd_entry_t *entry = zd_table_entry(&table, AT(i));

	assert_int_equal(zd_entry_state(*entry), ZD_ENTRY_PRESENT);
	zd_lru_forget(&lru, *entry);
	zd_entry_store(entry, 0);
}

static void expect_run(int first, unsigned int nr)
{
	struct zd_run run;

	assert_true(zd_lru_peek(&lru, &run));
	assert_int_equal(zd_run_addr(&run), AT(first));
	assert_int_equal(zd_run_nr(&run), nr);
	assert_int_equal(zd_run_slot(&run), SLOT);
	for (unsigned int i = 0; i < nr; i++)
		assert_true(zd_lru_in_run(&table, AT(first + i), &run));
	zd_lru_pop(&lru);
}

static void first_in_first_out(void **state)
{
	struct zd_run run;

	(void)state;
	assert_false(zd_lru_peek(&lru, &run));
	for (int i = 0; i < 1000; i++)		/* over several chunks */
		assert_int_equal(zd_lru_add(&lru, &table, SLOT, AT(i * 3), 1 + i % 3, false), 0);
	assert_int_equal(zd_lru_add(&lru, &table, SLOT, AT(4096), ZD_RUN_MAX, false), 0);
	assert_int_equal(zd_lru_present(&lru), 1999 + ZD_RUN_MAX);
	for (int i = 0; i < 1000; i++)
		expect_run(i * 3, 1 + i % 3);
	expect_run(4096, ZD_RUN_MAX);
	assert_false(zd_lru_peek(&lru, &run));
	assert_int_equal(lru.fifo[ZD_LRU_INACTIVE].pages, 0);
}

/* A page belongs to the newest run that it was entered with, and to none when it
 * has gone. */
static void membership(void **state)
{
	struct zd_run old, new;

	(void)state;
	zd_lru_add(&lru, &table, SLOT, AT(0), 4, false);
	assert_true(zd_lru_peek(&lru, &old));
	leave(1);
	leave(2);
	zd_lru_add(&lru, &table, SLOT, AT(2), 1, true);
	assert_true(zd_lru_in_run(&table, AT(0), &old));
	assert_false(zd_lru_in_run(&table, AT(1), &old));
	assert_false(zd_lru_in_run(&table, AT(2), &old));
	assert_true(zd_lru_in_run(&table, AT(3), &old));
	assert_int_equal(lru.present[ZD_LRU_INACTIVE], 2);
	assert_int_equal(lru.present[ZD_LRU_ACTIVE], 1);
	/* a run of a slot that is another address space's by now */
	new = (struct zd_run){ .addr = 40 * GIB, .id = old.id };
	assert_false(zd_lru_in_run(&table, 40 * GIB, &new));
}

static void second_chance(void **state)
{
	(void)state;
	/* ten hot runs and one cold one: a third must stand in line */
	for (int i = 0; i < 10; i++)
		zd_lru_add(&lru, &table, SLOT, AT(i), 1, true);
	zd_lru_add(&lru, &table, SLOT, AT(100), 1, false);
	zd_lru_balance(&lru, table_of, &lru);
	assert_int_equal(zd_lru_present(&lru), 11);
	assert_int_equal(lru.present[ZD_LRU_INACTIVE], 4);
	assert_int_equal(lru.present[ZD_LRU_ACTIVE], 7);
	/* the cold one goes first, then the oldest of the hot ones */
	expect_run(100, 1);
	expect_run(0, 1);
	assert_false(*zd_table_entry(&table, AT(0)) & ZD_ENTRY_HOT);
	expect_run(1, 1);
	expect_run(2, 1);
	assert_true(*zd_table_entry(&table, AT(3)) & ZD_ENTRY_HOT);
	/* nothing to do, nothing done */
	zd_lru_balance(&lru, table_of, &lru);
	assert_int_equal(lru.present[ZD_LRU_ACTIVE], 7);
}

/* Hot pages that went meanwhile are passed over, those of the dead as well. */
static void demote_leftovers(void **state)
{
	struct zd_run run;

	(void)state;
	for (int i = 0; i < 6; i++)
		zd_lru_add(&lru, &table, SLOT, AT(i * 2), 2, true);
	for (int i = 0; i < 5; i++)
		leave(i);
	zd_lru_balance(&lru, table_of, &lru);
	assert_true(zd_lru_peek(&lru, &run));
	assert_int_equal(zd_run_addr(&run), AT(4));
	assert_int_equal(lru.present[ZD_LRU_INACTIVE] + lru.present[ZD_LRU_ACTIVE], 7);
	assert_true(lru.present[ZD_LRU_ACTIVE] <= 2 * lru.present[ZD_LRU_INACTIVE]);
	died = true;
	zd_lru_balance(&lru, table_of, &lru);
}

static void refault_distance(void **state)
{
	zd_entry_t e;

	(void)state;
	zd_lru_add(&lru, &table, SLOT, AT(0), 512, false);
	zd_lru_add(&lru, &table, SLOT, AT(512), 488, true);	/* 1000 are resident */
	lru.clock = 1000000;
	e = zd_entry_device(7, zd_lru_age(&lru));
	assert_true(zd_lru_refault_is_hot(&lru, e));
	lru.clock += 900;
	assert_true(zd_lru_refault_is_hot(&lru, e));
	lru.clock += 200;
	assert_false(zd_lru_refault_is_hot(&lru, e));
	/* over the end of what an entry can hold */
	lru.clock = (ZD_ENTRY_AGE_MASK << ZD_LRU_AGE_SHIFT) + 63;
	e = zd_entry_device(7, zd_lru_age(&lru));
	lru.clock += 640;
	assert_true(zd_lru_refault_is_hot(&lru, e));
	lru.clock += 640;
	assert_false(zd_lru_refault_is_hot(&lru, e));
}

/* Pages that come and go leave runs behind: the queue must not grow with them. */
static void leftovers_swept(void **state)
{
	(void)state;
	zd_lru_add(&lru, &table, SLOT, AT(PAGES - 1), 1, false);		/* the one that stays */
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 40000; i++) {
			zd_lru_add(&lru, &table, SLOT, AT(i), 1, round & 1);
			leave(i);
		}
		zd_lru_balance(&lru, table_of, &lru);
	}
	assert_int_equal(zd_lru_present(&lru), 1);
	assert_true(lru.fifo[0].runs + lru.fifo[1].runs < 2 * 100000);
	zd_lru_add(&lru, &table, SLOT, AT(0), 1, false);
	while (lru.fifo[ZD_LRU_INACTIVE].pages <= 4 * lru.present[0] + 65536) {
		zd_lru_add(&lru, &table, SLOT, AT(1), 1, false);
		leave(1);
	}
	zd_lru_balance(&lru, table_of, &lru);
	assert_int_equal(lru.fifo[ZD_LRU_INACTIVE].runs, 2);
	expect_run(PAGES - 1, 1);	/* in their order */
	expect_run(0, 1);
}

static void no_memory(void **state)
{
	(void)state;
	zd_alloc_fail_nth(1);
	assert_int_equal(zd_lru_add(&lru, &table, SLOT, AT(0), 4, false), -ENOMEM);
	zd_alloc_fail_nth(0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(*zd_table_entry(&table, AT(i)), 0);
	assert_int_equal(zd_lru_present(&lru), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(first_in_first_out), TEST(membership),	  TEST(second_chance),
		TEST(demote_leftovers),	  TEST(refault_distance), TEST(leftovers_swept),
		TEST(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
