/* SPDX-License-Identifier: MIT */
/*
 * A program with several devices: pages go to the one that is asked for, also from another one;
 * and each device is removed, again and again, while threads use the memory and hold pages of it.
 */
#include "tests/integration/lib_test.h"

#define N	600
#define DEVS	3
#define ROUNDS	20
#define THREADS	3

static struct zd_device *devs[DEVS];
static struct zd_mm *mm;

static size_t on(const struct zd_device *dev, void *mem, size_t pages)
{
	zd_pfn_t pfns[N];
	size_t nr = 0;

	CHECK_EQ(zd_migrate_device_pfns(mm, mem, pages * PAGE, pfns, pages), 0);
	for (size_t i = 0; i < pages; i++)
		nr += pfns[i] && zd_device_page_index(dev, pfns[i]) < dev->nr_pages;
	return nr;
}

/* To one device, to another, home; the counts say so. */
static void between(struct zd_device *a, struct zd_device *b)
{
	struct zd_migrate_result r;
	char *mem;

	mm = open_mm();
	mem = evicted(mm, N, 1, a);
	CHECK_EQ(zd_migrate_to_device(mm, mem, N * PAGE, a, &r), 0);
	CHECK_EQ(r.already, N);
	CHECK_EQ(r.moved, 0);
	/* half of them are home when the range moves on */
	CHECK_FILLED(mem, N / 2, 1);
	migrate_out(mm, mem, N * PAGE, N, b, &r);
	CHECK_EQ(r.moved, N);
	CHECK_EQ(r.already, 0);
	settle(mm);
	CHECK_EQ(on(b, mem, N), N);
	CHECK_EQ(zd_device_live_pages(a), 0);
	CHECK_EQ(stats(mm).pages_device, N);
	CHECK_FILLED(mem, N, 1);
	/* each its half, and home from both */
	evict(mm, mem, N / 2, a);
	evict(mm, mem + N / 2 * PAGE, N - N / 2, b);
	CHECK_EQ(zd_migrate_to_ram(mm, mem, N * PAGE, &r), 0);
	CHECK_EQ(r.moved, N);
	CHECK_FILLED(mem, N, 1);
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_device_unregister(a), 0);
	CHECK_EQ(zd_device_unregister(b), 0);
	munmap(mem, N * PAGE);
}

/* A device that is too small, or fails, leaves pages where they were. */
static void no_room(void)
{
	struct zd_device *a = ram_device(N), *b = ram_device(100);
	struct zd_ram_faults f = { .write_error = -EIO, .nr = N };
	struct zd_migrate_result r;
	char *mem;

	mm = open_mm();
	mem = evicted(mm, N, 2, a);
	CHECK_EQ(zd_migrate_to_device(mm, mem, N * PAGE, b, &r), 0);
	CHECK_EQ(r.moved, 100);
	CHECK_EQ(r.device, N - 100);
	CHECK_EQ(on(a, mem, N), N - 100);
	CHECK_EQ(zd_ram_device_inject(a, &f), 0);
	CHECK_EQ(zd_migrate_to_device(mm, mem, N * PAGE, a, &r), 0);
	CHECK_EQ(r.device, 100);
	CHECK_EQ(r.already, N - 100);
	CHECK_EQ(on(b, mem, N), 100);
	CHECK_FILLED(mem, N, 2);
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_device_unregister(a), 0);
	CHECK_EQ(zd_device_unregister(b), 0);
	munmap(mem, N * PAGE);
}

/* What a removal does with pages: to a device that has room, or home; and a child keeps what it
 * shares. */
static void removal_moves_on(void)
{
	struct zd_device *a = ram_device(N), *b = ram_device(N / 2);
	struct zd_migrate_result r;
	char *mem;

	mm = open_mm();
	mem = evicted(mm, N, 3, a);
	CHECK_EQ(zd_migrate_to_device(mm, mem, PAGE, b, &r), 0);	/* attached */
	CHECK_EQ(r.moved, 1);
	CHECK_EQ(zd_device_unregister(a), 0);
	CHECK_EQ(on(b, mem, N), N / 2);
	CHECK_EQ(resident(mem, N), N - N / 2);
	CHECK_FILLED(mem, N, 3);
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_device_unregister(b), 0);
	munmap(mem, N * PAGE);
}

/* --- under load --- */

static char *memory;	/* THREADS x N pages, N of each thread */
static bool stop;	/* __atomic */

/* Each page is written and read by one thread alone, which knows what must be there. */
static void *use(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg;
	char *mem = memory + me * N * PAGE;
	uint64_t state = me + 1, is[N] = { 0 };

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t page = rnd(&state) % N;
		uint64_t *w = (uint64_t *)(mem + page * PAGE) + rnd(&state) % (PAGE / 8);

		if (is[page])
			CHECK_EQ(*(uint64_t *)(mem + page * PAGE), is[page]);
		is[page] = rnd(&state) | 1;
		*w = 0;
		*(uint64_t *)(mem + page * PAGE) = is[page];
	}
	return NULL;
}

static struct zd_device *new_device(unsigned int which)
{
	struct zd_device *dev = which == 2 ? file_device(THREADS * N) : ram_device(THREADS * N);

	if (which == 1)
		set_latency(dev, 200);
	return dev;
}

static void spread(uint64_t *state)
{
	struct zd_migrate_result r;

	for (unsigned int i = 0; i < 12; i++) {
		size_t first = rnd(state) % (THREADS * N - 200);

		CHECK_EQ(zd_migrate_to_device(mm, memory + first * PAGE, 200 * PAGE,
					      devs[rnd(state) % DEVS], &r),
			 0);
	}
}

/* Hold a page of @dev, if one is there.  NULL: none could be had. */
static struct zd_page *hold_page(struct zd_device *dev)
{
	zd_pfn_t pfns[N];

	CHECK_EQ(zd_migrate_device_pfns(mm, memory, N * PAGE, pfns, N), 0);
	for (size_t i = 0; i < N; i++)
		if (pfns[i] && zd_device_page_index(dev, pfns[i]) < dev->nr_pages &&
		    zd_try_get_page(zd_pfn_to_page(pfns[i])))
			return zd_pfn_to_page(pfns[i]);
	return NULL;
}

static void removed_under_load(uint64_t *state)
{
	pthread_t thread[THREADS];
	unsigned int held = 0;

	mm = open_mm();
	memory = map(THREADS * N);
	CHECK_EQ(zd_mm_register(mm, memory, THREADS * N * PAGE), 0);
	for (unsigned int i = 0; i < DEVS; i++)
		devs[i] = new_device(i);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&thread[i], NULL, use, (void *)(uintptr_t)i));
	for (unsigned int round = 0; round < ROUNDS * DEVS; round++) {
		unsigned int which = round % DEVS;
		struct zd_pagemap_holders holders;
		struct zd_page *page;

		spread(state);
		page = hold_page(devs[which]);
		if (page) {
			held++;
			CHECK_EQ(zd_device_unregister_timeout(devs[which], 20, &holders),
				 -ETIMEDOUT);
			CHECK(holders.nr_pages >= 1);
			zd_put_page(page);
		}
		CHECK_EQ(zd_device_unregister(devs[which]), 0);
		devs[which] = new_device(which);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(!pthread_join(thread[i], NULL));
	CHECK_EQ(zd_mm_close(mm), 0);
	for (unsigned int i = 0; i < DEVS; i++)
		CHECK_EQ(zd_device_unregister(devs[i]), 0);
	printf("%u removals, %u with a page held\n", ROUNDS * DEVS, held);
}

int main(int argc, char **argv)
{
	uint64_t state = seed(argc, argv);

	zd_set_log(quiet, NULL);
	between(ram_device(N), ram_device(N));
	between(ram_device(N), file_device(N));
	between(file_device(N), ram_device(N));
	no_room();
	removal_moves_on();
	removed_under_load(&state);
	return 0;
}
