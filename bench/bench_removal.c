/* SPDX-License-Identifier: MIT */
/*
 * Is the time of a removal linear in the pages that are live?  Each row has the time per page
 * of a removal with many pages beside that of a removal with an eighth of a million.
 *
 *	pagemap	every page is put for the last time, then the pagemap is unmapped
 *	device	zd_device_unregister() of a ram device brings every page home
 *
 * In CPU time of the whole process: removals of different sizes meet different shares
 * of a busy machine.  The time by the clock is printed beside it.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench.h"
#include "zonedev/device.h"
#include "zonedev/migrate.h"
#include "zonedev/pagemap.h"

#define MILLION	1000000ul
#define SIZES	4	/* an eighth, a quarter, a half, all */

struct took {
	uint64_t cpu, wall;	/* ns */
};

static struct took now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (struct took){ ts.tv_sec * 1000000000ull + ts.tv_nsec, bench_now_ns() };
}

static struct took since(struct took t)
{
	struct took n = now();

	return (struct took){ n.cpu - t.cpu, n.wall - t.wall };
}

static uint64_t freed;

static void page_free(struct zd_page *page)
{
	(void)page;
	freed++;
}

static struct took pagemap(size_t nr)
{
	static const struct zd_pagemap_ops ops = { .size = sizeof(ops), .page_free = page_free };
	struct zd_pagemap map = { .type = ZD_MEMORY_DEVICE_PRIVATE, .ops = &ops, .nr_pages = nr };
	struct took t;

	if (zd_memremap_pages(&map))
		bench_die("zd_memremap_pages of %zu pages failed", nr);
	for (size_t i = 0; i < nr; i++)
		if (zd_page_init(zd_pfn_to_page(map.pfn + i)))
			bench_die("zd_page_init failed");
	freed = 0;
	t = now();
	for (size_t i = 0; i < nr; i++)
		zd_put_page(zd_pfn_to_page(map.pfn + i));
	if (zd_memunmap_pages(&map))
		bench_die("zd_memunmap_pages failed");
	t = since(t);
	if (freed != nr)
		bench_die("%llu of %zu pages were freed", (unsigned long long)freed, nr);
	return t;
}

static struct took device(size_t nr)
{
	struct zd_mm *mm = bench_open_mm(0);
	size_t bytes = nr * ZD_PAGE_SIZE;
	struct zd_migrate_result r;
	struct zd_device *dev;
	struct took t;
	char *mem;

	mem = bench_map(bytes, 0);
	bench_fill(mem, bytes);
	if (zd_mm_register(mm, mem, bytes) || zd_ram_device_create(bytes, &dev))
		bench_die("no ram device of %zu pages", nr);
	if (zd_migrate_to_device(mm, mem, bytes, dev, &r) || r.moved != nr)
		bench_die("%llu of %zu pages went out", (unsigned long long)r.moved, nr);
	t = now();
	if (zd_device_unregister(dev))
		bench_die("zd_device_unregister failed");
	t = since(t);
	bench_check(mem, bytes);
	if (zd_mm_close(mm))
		bench_die("zd_mm_close failed");
	munmap(mem, bytes);
	return t;
}

static void measure(const char *what, struct took (*removal)(size_t nr), size_t max,
		    unsigned int rounds, double limit)
{
	static double ns[SIZES][BENCH_ROUNDS_MAX], ms[SIZES][BENCH_ROUNDS_MAX];
	char text[100];

	removal(max / 8);	/* the first removal of all finds memory untouched */
	for (unsigned int r = 0; r < rounds; r++) {
		for (unsigned int i = 0; i < SIZES; i++) {
			size_t nr = max >> (SIZES - 1 - i);
			struct took t = removal(nr);

			ns[i][r] = (double)t.cpu / nr;
			ms[i][r] = t.wall / 1e6;
		}
	}
	for (unsigned int i = 1; i < SIZES; i++) {
		snprintf(text, sizeof(text), "%s, %zu live pages (%.0f ms), a page", what,
			 max >> (SIZES - 1 - i), bench_median(ms[i], rounds));
		bench_report(text, "ns", ns[i], ns[0], rounds,
			     i == SIZES - 1 ? BENCH_AT_MOST : BENCH_NO_GOAL, limit);
	}
}

/* How many pages fit twice, in memory and on the device, into half of the free memory. */
static size_t pages_that_fit(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long kib = 0;
	char line[200];
	size_t nr;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %lu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	nr = kib / 2 / 8;
	return nr < MILLION ? nr / 8 * 8 : MILLION;
}

int main(void)
{
	size_t nr = pages_that_fit();

	measure("removal of a pagemap", pagemap, MILLION, 21, 1.25);
	if (nr < 8000)
		bench_skip("no memory for pages on a device");
	measure("removal of a ram device", device, nr, 3, 1.25);
	return 0;
}
