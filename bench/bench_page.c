/* SPDX-License-Identifier: MIT */
/*
 * zd_get_page() + zd_put_page() of a live page, against the atomic increment
 * and decrement that no reference count can do without.
 */
#include <string.h>

#include "bench.h"
#include "zonedev/page.h"
#include "zonedev/pagemap.h"

#define PAIRS	200000
#define ROUNDS	301

static void page_free(struct zd_page *page)
{
	(void)page;
}

/* Functions of their own, with aligned loops, so that neither is luckier than the other. */
__attribute__((noinline, aligned(64))) static void get_put(struct zd_page *page)
{
	for (int i = 0; i < PAIRS; i++) {
		zd_get_page(page);
		zd_put_page(page);
	}
}

__attribute__((noinline, aligned(64))) static void bare(uint32_t *count)
{
	for (int i = 0; i < PAIRS; i++) {
		__atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
		__atomic_sub_fetch(count, 1, __ATOMIC_RELEASE);
	}
}

int main(void)
{
	static double ours[ROUNDS], theirs[ROUNDS];
	static const struct zd_pagemap_ops ops = { .size = sizeof(ops), .page_free = page_free };
	static struct zd_page plain __attribute__((aligned(64)));
	struct zd_pagemap pgmap = {
		.type = ZD_MEMORY_DEVICE_PRIVATE, .ops = &ops, .nr_pages = 512,
	};
	struct zd_page *page;
	int rc = zd_memremap_pages(&pgmap);

	if (rc)
		bench_die("zd_memremap_pages: %s", strerror(-rc));
	page = zd_pfn_to_page(pgmap.pfn);
	rc = zd_page_init(page);
	if (rc)
		bench_die("zd_page_init: %s", strerror(-rc));
	plain.refcount = 1;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t t0, t1, t2;

		t0 = bench_now_ns();
		get_put(page);
		t1 = bench_now_ns();
		bare(&plain.refcount);
		t2 = bench_now_ns();
		ours[r] = (double)(t1 - t0) / PAIRS;
		theirs[r] = (double)(t2 - t1) / PAIRS;
	}
	bench_report("get + put of a page, beside a bare atomic pair", "ns", ours, theirs, ROUNDS,
		     BENCH_AT_MOST, 1.05);
	zd_put_page(page);
	return zd_memunmap_pages(&pgmap) ? 1 : 0;
}
