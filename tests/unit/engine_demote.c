/* SPDX-License-Identifier: MIT */
/* Pages between two devices: which go and when, and what happens to them on the way. */
#include "tests/unit/tiers_test.h"

#include "engine/delayed_put.h"
#include "engine/demote.h"
#include "engine/entries.h"
#include "engine/fault.h"
#include "engine/shift.h"

/* --- demotion --- */

static void turns(unsigned int nr)
{
	while (nr--)
		zd_server_demote(&server);
}

/* Time passes: what goes out from now on is younger. */
static void later(void)
{
	server.lru.clock += 1 << ZD_LRU_AGE_SHIFT;
}

static void coldest_first(void **state)
{
	struct stub *a = add(320), *b = add(PAGES);
	zd_pfn_t shared;

	(void)state;
	out(100, 100);
	later();
	out(300, 100);
	later();
	turns(4);
	assert_int_equal(nr_on(b), 0);	/* 20 pages are to be free, and are */
	out(0, 100);
	turns(4);
	assert_int_equal(nr_on(b), 0);
	later();
	out(500, 10);
	/* one that a forked child shares isn't worth moving */
	shared = zd_entry_val(*zd_mm_entry(mm, at(101)));
	zd_get_page(zd_pfn_to_page(shared));
	/* went home, and out again: young */
	zd_mm_drop(mm, at(102), at(103));
	out(102, 1);
	turns(20);
	assert_int_equal(server.tiers[0]->pages_demoted, nr_on(b));
	assert_int_equal(nr_on(b), 64);
	for (unsigned int i = 100; i < 166; i++)
		assert_ptr_equal(where(i), i == 101 || i == 102 ? a : b);
	assert_int_equal(server.tiers[1]->pages_in, nr_on(b));
	assert_false(server.demoting);
	zd_put_page(zd_pfn_to_page(shared));
}

/* What its contents take is above the share. */
static void ram_above_share(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	server.limit = 1000;
	out(0, 256);
	a->ram_pages = 500;
	turns(3);
	assert_int_equal(nr_on(b), 0);
	a->ram_pages = 501;
	turns(3);
	assert_int_equal(nr_on(b), 3 * 64);
	/* a turn that has served a fault does less, and none while faults wait */
	server.last_fault = mm;
	turns(1);
	assert_int_equal(nr_on(b), 3 * 64 + 8);
	server.last_fault = NULL;
	server.backlog.nr = 1;
	turns(1);
	server.backlog.nr = 0;
	assert_int_equal(nr_on(b), 3 * 64 + 8);
	assert_int_equal(nr_on(a), 256 - 3 * 64 - 8);
}

/* No room, though there seem to be pages: some are sent on, once. */
static void had_no_room(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	a->most = 100;
	out(0, 110);
	assert_int_equal(nr_on(a), 100);
	turns(10);
	assert_int_equal(nr_on(a), 100);	/* nothing was there to be sent on when it said so */
	zd_mm_drop(mm, at(0), at(1));
	out(200, 10);
	turns(10);
	assert_int_equal(nr_on(a), 36);
	out(300, 10);
	turns(10);
	assert_int_equal(nr_on(a), 46);
	assert_int_equal(nr_on(b), 83);
}

/* Pages that no run names: the queue is made anew. */
static void found_by_a_walk(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	server.limit = 1000;
	out(0, 64);
	while (server.tiers[0]->queue.runs)
		zd_fifo_pop(&server.tiers[0]->queue);
	a->ram_pages = 600;
	turns(2);
	assert_int_equal(nr_on(b), 64);
	assert_int_equal(nr_on(a), 0);
}

/* A page that came home and went out again at once, and one that was moved to and fro, is in two
 * runs of the same number: it goes once. */
static void in_two_runs(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	server.limit = 1000;
	out(0, 8);
	zd_mm_drop(mm, at(2), at(3));
	out(2, 1);
	zd_mm_remap(mm, at(5), at(600), ZD_PAGE_SIZE);
	zd_mm_remap(mm, at(600), at(5), ZD_PAGE_SIZE);
	assert_int_equal(server.tiers[0]->queue.pages, 11);
	a->ram_pages = 600;
	turns(2);
	assert_int_equal(server.tiers[0]->pages_demoted, 8);
	assert_int_equal(server.tiers[0]->nr_entries, 0);
	assert_int_equal(server.tiers[1]->nr_entries, 8);
	assert_int_equal(a->nr_taken, 0);
	assert_int_equal(b->nr_taken, 8);
	assert_int_equal(nr_on(b), 8);
}

/* An error on the way leaves a page where it was, and isn't tried again at once. */
static void stays_on_error(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	may_log = true;
	server.limit = 1000;
	out(0, 64);
	a->ram_pages = 600;
	b->write_error = -EIO;
	turns(2);
	assert_int_equal(nr_on(a), 64);
	assert_int_equal(b->nr_taken, 0);
	assert_int_equal(b->nr_writes, 1);
	b->write_error = 0;
	a->read_error = -EIO;
	server.tiers[0]->demote_after_ns = server.tiers[1]->pause_until_ns = 0;
	turns(2);
	assert_int_equal(nr_on(a), 64);
	a->read_error = 0;
	server.tiers[0]->demote_after_ns = 0;
	turns(2);
	assert_int_equal(nr_on(b), 64);
}

/* A page that stays is in the queue at once: when its batch lands, its address space may be gone. */
static void stayed_and_ends(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);
	struct zd_mm *other;

	(void)state;
	server.limit = 1000;
	out(0, 10);
	a->ram_pages = 600;
	a->read_error = -EIO;
	a->every = 2;
	b->hold = true;
	turns(1);
	assert_int_equal(b->nr_held, 1);
	assert_int_equal(server.tiers[0]->queue.pages, 5);
	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), NULL, &other), 0);
	zd_mm_destroy(mm);
	mm = other;
	let_go(b);
	assert_false(server.demoting);
	assert_int_equal(server.tiers[0]->queue.pages, 5);
	assert_int_equal(a->nr_taken + b->nr_taken, 0);
}

/* --- a shift, step by step --- */

static unsigned int went, landings;

static void shift_landed(struct zd_mig *mig)
{
	went += mig->gone;
	landings++;
}

static int shift(unsigned int first, unsigned int nr, unsigned int to)
{
	struct zd_shift_want want = { .to = server.tiers[to], .landed = shift_landed };
	struct zd_place places[ZD_MIG_MAX];

	went = landings = 0;
	for (unsigned int i = 0; i < nr; i++)
		places[i] = (struct zd_place){ mm, at(first + i) };
	return zd_shift(&server, places, nr, &want);
}

/* An unmap, an mremap and a fork while the pages are read, or written. */
static void meanwhile(bool reading)
{
	struct stub *a = add(100), *b = add(100);
	struct stub *slow = reading ? a : b;
	struct zd_mm *child;

	out(0, 10);
	slow->hold = true;
	assert_int_equal(shift(0, 10, 1), 10);
	assert_int_equal(slow->nr_held, 1);
	assert_int_equal(mm->nr_device, 10);
	zd_mm_drop(mm, at(2), at(4));
	zd_mm_remap(mm, at(5), at(600), ZD_PAGE_SIZE);
	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), NULL, &child), 0);
	assert_int_equal(zd_uffd_api(zd_mm_uffd(child), 0), 0);
	assert_int_equal(zd_mm_adopt(child, at(0), at(PAGES)), 0);
	zd_get_page(zd_pfn_to_page(zd_entry_val(*zd_mm_entry(mm, at(7)))));
	zd_mm_set_device(child, at(7), zd_entry_val(*zd_mm_entry(mm, at(7))));
	let_go(slow);
	assert_int_equal(landings, 1);
	assert_int_equal(went, 8);
	assert_int_equal(mm->nr_device, 8);
	assert_int_equal(b->nr_taken, 8);
	assert_int_equal(a->nr_taken, 1);	/* the child's */
	assert_int_equal(child->on_tier[0], 1);
	assert_int_equal(mm->on_tier[1], 8);
	assert_int_equal(zd_entry_state(*zd_mm_entry(mm, at(600))), ZD_ENTRY_DEVICE);
	zd_mm_drop(mm, at(600), at(601));
	assert_int_equal(nr_on(b), 7);
	zd_mm_destroy(child);
}

static void while_it_reads(void **state)
{
	(void)state;
	meanwhile(true);
}

static void while_it_writes(void **state)
{
	(void)state;
	meanwhile(false);
}

/* The address space ends in the middle. */
static void ends_meanwhile(void **state)
{
	struct stub *a = add(100), *b = add(100);
	struct zd_mm *other;

	(void)state;
	out(0, 10);
	b->hold = true;
	assert_int_equal(shift(0, 10, 1), 10);
	zd_mm_drop(mm, at(0), at(PAGES));
	assert_int_equal(mm->nr_device, 0);
	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), NULL, &other), 0);
	zd_mm_destroy(mm);
	mm = other;
	let_go(b);
	assert_int_equal(a->nr_taken + b->nr_taken, 0);
}

/* A fault waits for the read, and not for the write. */
static void fault_meanwhile(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	out(0, 4);
	a->hold = b->hold = true;
	assert_int_equal(shift(0, 4, 1), 4);
	zd_fault(mm, at(1), 0, 0);
	assert_true(*zd_mm_entry(mm, at(1)) & ZD_ENTRY_LOCK);
	let_go(a);
	is_home(1);
	assert_true(*zd_mm_entry(mm, at(2)) & ZD_ENTRY_LOCK);
	zd_fault(mm, at(2), 0, 0);
	is_home(2);
	let_go(b);
	is_home(1);
	is_home(2);
	assert_ptr_equal(where(0), b);
	assert_ptr_equal(where(3), b);
	assert_int_equal(went, 2);
	zd_flush_delayed_puts(&server);
	assert_int_equal(a->nr_taken, 0);
	assert_int_equal(b->nr_taken, 2);
}

/* Where the server can address both devices nothing is ever in flight. */
static void direct(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	a->direct = b->direct = true;
	out(0, 10);
	assert_int_equal(shift(0, 10, 1), 10);
	assert_int_equal(went, 10);
	assert_int_equal(nr_on(b), 10);
	assert_int_equal(a->nr_taken, 0);
	assert_int_equal(a->nr_writes + b->nr_writes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(coldest_first),   TEST(ram_above_share), TEST(had_no_room),
		TEST(found_by_a_walk), TEST(in_two_runs),     TEST(stays_on_error),
		TEST(stayed_and_ends), TEST(while_it_reads),  TEST(while_it_writes),
		TEST(ends_meanwhile),  TEST(fault_meanwhile), TEST(direct),
	};

	return run_all(tests, sizeof(tests) / sizeof(tests[0]));
}
