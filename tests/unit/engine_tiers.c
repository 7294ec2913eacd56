/* SPDX-License-Identifier: MIT */
/* Several devices of a server: which of them gets a page that goes out, and what comes home. */
#include "tests/unit/tiers_test.h"

#include "engine/delayed_put.h"
#include "engine/entries.h"
#include "engine/evict.h"
#include "engine/home.h"

/* --- who gets a page --- */

static void first_with_room(void **state)
{
	struct stub *a = add(10), *b = add(20), *c = add(100);

	(void)state;
	out(0, 50);
	assert_int_equal(nr_on(a), 10);
	assert_int_equal(nr_on(b), 20);
	assert_int_equal(nr_on(c), 20);
	assert_ptr_equal(where(0), a);
	assert_ptr_equal(where(49), c);
	assert_int_equal(a->nr_writes + b->nr_writes + c->nr_writes, 3);
	assert_int_equal(mm->nr_device, 50);
	assert_int_equal(server.tiers[1]->nr_entries, 20);
	assert_int_equal(server.tiers[2]->pages_in, 20);
	assert_int_equal(nr_logged, 0);
}

/* No page of any: what was moved goes back, and while that is known nothing is moved. */
static void no_room_at_all(void **state)
{
	struct stub *a = add(10), *b = add(5);

	(void)state;
	out(0, 20);
	zd_mm_drop(mm, at(0), at(1));
	assert_int_equal(start_out(20, 4), 1);
	zd_mm_drop(mm, at(20), at(21));
	assert_int_equal(start_out(0, 1), 1);
	assert_int_equal(nr_on(a), 10);
	assert_int_equal(nr_on(b), 5);
	for (unsigned int i = 15; i < 20; i++)
		is_home(i);
	assert_int_equal(server.stats.c.refused_device, 5);
	zd_flush_delayed_puts(&server);
}

/* A page that doesn't fit goes on alone, at once, and nothing else changes. */
static void one_does_not_fit(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	may_log = true;
	a->write_error = -ENOSPC;
	a->every = 3;
	out(0, 30);
	for (unsigned int i = 0; i < 30; i++)
		assert_ptr_equal(where(i), i % 3 ? a : b);
	assert_int_equal(nr_logged, 0);
	assert_false(server.tiers[0]->write_failed);
	assert_int_equal(server.tiers[0]->pause_until_ns, 0);
	assert_int_equal(a->nr_taken, 20);
	/* none takes it: RAM */
	b->write_error = -ENOSPC;
	out(30, 3);
	is_home(30);
	assert_ptr_equal(where(31), a);
}

static void a_device_fails(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	may_log = true;
	a->write_error = -EIO;
	out(0, 10);
	assert_int_equal(nr_on(b), 10);
	out(10, 10);
	assert_int_equal(nr_on(b), 20);
	assert_int_equal(a->nr_taken, 0);
	assert_int_equal(nr_logged, 1);
	/* for a moment the next is asked first */
	assert_false(zd_tier_may_take(&server, server.tiers[0]));
	assert_true(zd_tier_may_take(&server, server.tiers[1]));
	server.tiers[0]->pause_until_ns = 0;
	a->write_error = 0;
	out(20, 10);
	assert_int_equal(nr_on(a), 10);
}

/* A device that can't be reached now keeps nothing from RAM: the page goes back there. */
static void a_device_is_away(void **state)
{
	add(100);
	add(100);
	(void)state;
	stub[0].write_error = -EAGAIN;
	out(0, 4);
	for (unsigned int i = 0; i < 4; i++)
		is_home(i);
}

/* What happens to pages while they are between two devices. */
static void dropped_on_the_way(void **state)
{
	struct stub *a = add(4), *b = add(100);

	(void)state;
	b->hold = true;
	out(0, 10);
	assert_int_equal(b->nr_held, 1);
	zd_mm_drop(mm, at(6), at(8));
	zd_mm_remap(mm, at(9), at(500), ZD_PAGE_SIZE);
	let_go(b);
	assert_int_equal(zd_entry_state(*zd_mm_entry(mm, at(500))), ZD_ENTRY_DEVICE);
	zd_mm_drop(mm, at(500), at(501));
	assert_int_equal(nr_on(a), 4);
	assert_int_equal(b->nr_taken, 3);
	assert_ptr_equal(where(5), b);
	assert_null(where(6));
	assert_null(where(9));
}

/* --- eviction and RAM --- */

static void queue(unsigned int first, unsigned int nr)
{
	for (unsigned int i = first; i < first + nr; i += 32)
		assert_int_equal(zd_mm_lru_add(mm, at(i), 32, false), 0);
	server.resident += nr;
}

static void ram_counts(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	queue(0, 512);
	server.limit = 1000;
	zd_server_evict(&server);
	assert_int_equal(server.resident, 512);
	a->ram_pages = 600;		/* 1112 in all, and more than the share */
	assert_int_equal(zd_server_used(&server), 1112);
	assert_true(zd_server_throttle(&server) || zd_server_used(&server) <= 1000);
	zd_server_evict(&server);
	assert_true(zd_server_used(&server) <= 1000);
	assert_int_equal(nr_on(a), 0);
	assert_true(nr_on(b) >= 112);
	/* within its share it is the first again */
	a->ram_pages = 500;
	queue(512, 256);
	zd_server_evict(&server);
	assert_true(nr_on(a) > 0);
	/* and has no limit when there is no other */
	b->write_error = -EIO;
	a->ram_pages = 700;
	server.tiers[1]->pause_until_ns = UINT64_MAX;
	assert_true(zd_tier_may_take(&server, server.tiers[0]));
	server.tiers[1]->pause_until_ns = 0;
}

/* A tier alone that takes more RAM than there is: told once, and the last pages stay. */
static void ram_for_nothing_else(void **state)
{
	struct stub *a = add(PAGES);

	(void)state;
	may_log = true;
	queue(0, 64);
	server.limit = 1000;
	a->ram_pages = 1000;
	for (int i = 0; i < 3; i++)
		zd_server_evict(&server);
	assert_int_equal(nr_on(a), 0);
	assert_int_equal(nr_logged, 1);
}

/* --- home --- */

/* A fault brings neighbours, but of one device. */
static void home_of_one_device(void **state)
{
	struct stub *a = add(5), *b = add(100);

	(void)state;
	out(0, 8);
	assert_int_equal(zd_home(mm, at(0), 8, ZD_HOME_FAULT, at(6), 0), 3);
	assert_int_equal(nr_on(a), 5);
	assert_int_equal(nr_on(b), 0);
	assert_int_equal(zd_home(mm, at(1), 4, ZD_HOME_MOVE, 0, 0), 4);
	assert_ptr_equal(where(0), a);
	for (unsigned int i = 1; i < 8; i++)
		is_home(i);
	zd_flush_delayed_puts(&server);
	assert_int_equal(server.tiers[0]->pages_home, 4);
	assert_int_equal(server.tiers[1]->pages_home, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(first_with_room), TEST(no_room_at_all),	   TEST(one_does_not_fit),
		TEST(a_device_fails),  TEST(a_device_is_away),	   TEST(dropped_on_the_way),
		TEST(ram_counts),      TEST(ram_for_nothing_else), TEST(home_of_one_device),
	};

	return run_all(tests, sizeof(tests) / sizeof(tests[0]));
}
