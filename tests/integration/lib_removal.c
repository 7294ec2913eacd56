/* SPDX-License-Identifier: MIT */
/*
 * A device is removed while memory is on it: the memory comes home, the program
 * goes on, and a device that doesn't answer is waited for as long as the caller says.
 *
 * (lib_removal_flight: pages on their way; lib_removal_held: I/O, children, other
 * removals; lib_removal_error: removals that can't be; pages_removal: pins, and from
 * inside page_free.)
 */
#include "tests/integration/lib_test.h"

#define N 700

/*
 * Linux 6.1: memunmap_pages() brings nothing home.  That is the driver's task
 * (migrate_device_range(), a copy, migrate_device_finalize()); pages that the driver leaves,
 * in a page table or pinned, are waited for without a limit and without a word.
 */
static void pages_come_home(void)
{
	struct zd_device *dev = ram_device(N), *next = ram_device(N);
	struct zd_mm *mm = open_mm();
	char *mem = evicted(mm, N, 1, dev);

	CHECK_EQ(zd_device_unregister(dev), 0);
	CHECK_EQ(resident(mem, N), N);
	CHECK_FILLED(mem, N, 1);
	/* the mm is free for another */
	evict(mm, mem, N, next);
	CHECK_EQ(zd_device_live_pages(next), N);
	CHECK_FILLED(mem, N, 1);
	close_mm(mm, next);
}

static struct zd_device *removing;
static char *touched;

static void *touch(void *arg)
{
	size_t *bad = arg;

	for (int round = 0; round < 50; round++)
		*bad += bad_page(touched, 0, N, 2) != N;
	return NULL;
}

/* Linux 6.1: the same; a fault that meets the driver's migration of the page waits for
 * it (migration_entry_wait()). */
static void while_it_is_used(void)
{
	struct zd_mm *mm = open_mm();
	pthread_t thread;
	size_t bad = 0;

	removing = ram_device(N);
	set_latency(removing, 2000);
	touched = evicted(mm, N, 2, removing);
	CHECK(!pthread_create(&thread, NULL, touch, &bad));
	CHECK_EQ(zd_device_unregister(removing), 0);
	CHECK(!pthread_join(thread, NULL));
	CHECK_EQ(bad, 0);
	CHECK_EQ(zd_mm_close(mm), 0);
}

static void it_does_not_answer(void)
{
	struct zd_device *dev = ram_device(N);
	struct zd_pagemap_holders holders = { 0 };
	struct zd_mm *mm = open_mm();
	struct zd_migrate_result r;
	char *mem;

	mem = evicted(mm, N, 3, dev);
	set_latency(dev, 1500000);	/* longer than the removal waits */
	CHECK_EQ(zd_device_unregister_timeout(dev, 50, &holders), -ETIMEDOUT);
	CHECK(holders.nr_pages > 0 && holders.nr_pfns > 0);
	/* no new page goes to the device, and what it answers later is right */
	CHECK_EQ(zd_migrate_to_device(mm, mem, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.moved, 0);
	CHECK_FILLED(mem, N, 3);
	CHECK_EQ(zd_device_unregister_timeout(dev, 30000, NULL), 0);
	CHECK_EQ(zd_mm_close(mm), 0);
}

/* Linux 6.1: migrate_device_range() can't take a page with more references than its
 * mappings explain; memunmap_pages() then waits, and can't say for which page. */
static void a_page_is_held(void)
{
	struct zd_device *dev = ram_device(N);
	struct zd_pagemap_holders holders = { 0 };
	struct zd_mm *mm = open_mm();
	char *mem = evicted(mm, N, 4, dev);
	zd_pfn_t pfns[N];

	CHECK_EQ(zd_migrate_device_pfns(mm, mem, N * PAGE, pfns, N), 0);
	zd_get_page(zd_pfn_to_page(pfns[7]));
	CHECK_EQ(zd_device_unregister_timeout(dev, 50, &holders), -ETIMEDOUT);
	CHECK_EQ(holders.nr_pages, 1);
	CHECK_EQ(holders.pfns[0], pfns[7]);
	CHECK_FILLED(mem, N, 4);	/* the page's place is RAM again all the same */
	zd_put_page(zd_pfn_to_page(pfns[7]));
	CHECK_EQ(zd_device_unregister_timeout(dev, 30000, NULL), 0);
	CHECK_EQ(zd_mm_close(mm), 0);
}

int main(void)
{
	pages_come_home();
	while_it_is_used();
	it_does_not_answer();
	a_page_is_held();
	return 0;
}
