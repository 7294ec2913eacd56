/* SPDX-License-Identifier: MIT */
/*
 * zd_pin_user_pages_fast() + zd_unpin_user_pages() of pages that have descriptors,
 * against a loop of try-gets and puts of the same descriptors; in two threads, on
 * pages of their own and on the same ones; and of a whole huge page.  Then the
 * lookups of a registration cache, beside UCX's.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "bench_gup.h"
#include "zonedev/gup.h"

#define PAGES		4096	/* 16 MiB; the second thread has as many after them */
#define CALL		64	/* pages of a call */
#define ROUNDS		201
#define BUFFERS		2048	/* of the cache: two pages of every four */
#define BUFFER_PAGES	2
#define STEP		(4 * ZD_PAGE_SIZE)

static struct zd_mm *mm;
static char *mem, *huge;
static struct zd_page *pages[2 * PAGES];
static uint32_t order[BUFFERS];
static struct {
	uint64_t count;
} __attribute__((aligned(128))) shared;

static void pin_unpin(char *at, unsigned long nr)
{
	struct zd_page *p[ZD_FOLIO_PAGES];

	if (zd_pin_user_pages_fast(mm, at, nr, ZD_FOLL_WRITE, p) != (long)nr)
		bench_die("zd_pin_user_pages_fast");
	zd_unpin_user_pages(p, nr);
}

/* Each thread pins and unpins PAGES pages.  The loops are aligned, so that none is luckier
 * than another. */
#define WORK __attribute__((noinline, aligned(64))) static void

WORK pin_calls(void *arg, unsigned int thread)
{
	(void)arg;
	for (unsigned int i = 0; i < PAGES; i += CALL)
		pin_unpin(mem + (thread * PAGES + i) * ZD_PAGE_SIZE, CALL);
}

WORK pin_singly(void *arg, unsigned int thread)
{
	(void)arg;
	for (unsigned int i = 0; i < PAGES; i++)
		pin_unpin(mem + (thread * PAGES + i) * ZD_PAGE_SIZE, 1);
}

/* The least that both calls do: a loop of gets, and a loop of puts. */
WORK bare_calls(void *arg, unsigned int thread)
{
	(void)arg;
	for (unsigned int i = 0; i < PAGES; i += CALL) {
		struct zd_page **p = &pages[thread * PAGES + i];

		for (unsigned int k = 0; k < CALL; k++)
			if (!zd_try_get_page(p[k]))
				bench_die("a free page");
		for (unsigned int k = 0; k < CALL; k++)
			zd_put_page(p[k]);
	}
}

WORK bare_singly(void *arg, unsigned int thread)
{
	(void)arg;
	for (unsigned int i = 0; i < PAGES; i++) {
		struct zd_page *p = pages[thread * PAGES + i];

		if (!zd_try_get_page(p))
			bench_die("a free page");
		zd_put_page(p);
	}
}

WORK pin_same(void *arg, unsigned int thread)
{
	(void)arg;
	(void)thread;
	for (unsigned int i = 0; i < PAGES; i += CALL)
		pin_unpin(mem, CALL);
}

WORK pin_same_page(void *arg, unsigned int thread)
{
	(void)arg;
	(void)thread;
	for (unsigned int i = 0; i < PAGES; i++)
		pin_unpin(mem, 1);
}

WORK one_atomic(void *arg, unsigned int thread)
{
	(void)arg;
	(void)thread;
	for (unsigned int i = 0; i < PAGES; i++) {
		__atomic_add_fetch(&shared.count, 1, __ATOMIC_RELAXED);
		__atomic_sub_fetch(&shared.count, 1, __ATOMIC_RELEASE);
	}
}

WORK pin_huge(void *arg, unsigned int thread)
{
	(void)arg;
	(void)thread;
	for (unsigned int i = 0; i < PAGES; i += ZD_FOLIO_PAGES)
		pin_unpin(huge, ZD_FOLIO_PAGES);
}

WORK pin_buffers(void *arg, unsigned int thread)
{
	(void)arg;
	for (unsigned int i = 0; i < BUFFERS; i++)
		pin_unpin(mem + order[(i + thread * (BUFFERS / 2)) % BUFFERS] * STEP, BUFFER_PAGES);
}

WORK cached_buffers(void *arg, unsigned int thread)
{
	(void)arg;
	for (unsigned int i = 0; i < BUFFERS; i++)
		bench_rcache_get_put(mem + order[(i + thread * (BUFFERS / 2)) % BUFFERS] * STEP,
				     BUFFER_PAGES * ZD_PAGE_SIZE);
}

typedef void work_fn(void *arg, unsigned int thread);

struct side {
	unsigned int threads;
	work_fn *work;
	unsigned int ops;	/* of each thread; the figure is ns an op */
};

/* Measures @a beside @b. */
static void compare(const char *what, struct side a, struct side b, enum bench_goal goal,
		    double limit)
{
	static double ours[ROUNDS], theirs[ROUNDS];

	for (int r = -1; r < ROUNDS; r++) {
		double x = bench_threads(a.threads, a.work, NULL) / a.ops;
		double y = bench_threads(b.threads, b.work, NULL) / b.ops;

		if (r < 0)
			continue;	/* the first round is slow */
		ours[r] = x;
		theirs[r] = y;
	}
	bench_report(what, "ns", ours, theirs, ROUNDS, goal, limit);
}

static void setup(void)
{
	int rc;

	mem = bench_map(2 * PAGES * ZD_PAGE_SIZE, 0);
	bench_fill(mem, 2 * PAGES * ZD_PAGE_SIZE);
	mm = bench_open_mm(0);
	rc = zd_mm_register(mm, mem, 2 * PAGES * ZD_PAGE_SIZE);
	if (rc)
		bench_die("zd_mm_register: %s", strerror(-rc));
	if (zd_pin_user_pages_fast(mm, mem, 2 * PAGES, 0, pages) != 2 * PAGES)
		bench_die("zd_pin_user_pages_fast");
	zd_unpin_user_pages(pages, 2 * PAGES);
	bench_shuffle(order, BUFFERS, 1);
}

static void alone(void)
{
	compare("pin + unpin of 64 pages, a page, beside bare try-get + put",
		(struct side){ 1, pin_calls, PAGES }, (struct side){ 1, bare_calls, PAGES },
		BENCH_AT_MOST, 2.5);
	compare("  of one page a call", (struct side){ 1, pin_singly, PAGES },
		(struct side){ 1, bare_singly, PAGES }, BENCH_AT_MOST, 2.5);
}

/* The time of each thread: in it the two do twice as much. */
static void two_threads(void)
{
	compare("  two threads on pages of their own, speed beside one alone",
		(struct side){ 2, pin_calls, 2 * PAGES }, (struct side){ 1, pin_calls, PAGES },
		BENCH_SPEEDUP, 1.8);
	compare("    bare try-get + put, the same", (struct side){ 2, bare_calls, 2 * PAGES },
		(struct side){ 1, bare_calls, PAGES }, BENCH_SPEEDUP, 0);
	compare("  two threads on the same 64 pages, beside two on one atomic",
		(struct side){ 2, pin_same, PAGES }, (struct side){ 2, one_atomic, PAGES },
		BENCH_AT_MOST, 1);
	compare("    on one and the same page", (struct side){ 2, pin_same_page, PAGES },
		(struct side){ 2, one_atomic, PAGES }, BENCH_NO_GOAL, 0);
}

static void huge_page(void)
{
	struct zd_page *p[ZD_FOLIO_PAGES];

	huge = bench_map(ZD_FOLIO_PAGES * ZD_PAGE_SIZE, 1);
	bench_fill(huge, ZD_FOLIO_PAGES * ZD_PAGE_SIZE);
	if (zd_mm_register(mm, huge, ZD_FOLIO_PAGES * ZD_PAGE_SIZE) ||
	    zd_pin_user_pages_fast(mm, huge, ZD_FOLIO_PAGES, 0, p) != ZD_FOLIO_PAGES)
		bench_die("can't pin a huge page");
	if (!(p[0]->pgmap_id & ZD_PAGE_FOLIO))
		bench_report_none("  a huge page as a whole", "ns", "the kernel gave none");
	else
		compare("  a huge page as a whole, a page of it, beside bare try-get + put",
			(struct side){ 1, pin_huge, PAGES }, (struct side){ 1, bare_calls, PAGES },
			BENCH_NO_GOAL, 0);
	zd_unpin_user_pages(p, ZD_FOLIO_PAGES);
}

static void beside_rcache(void)
{
	const char *why = bench_rcache_start(mem, BUFFERS, STEP, BUFFER_PAGES * ZD_PAGE_SIZE);

	if (why) {
		bench_report_none("pin + unpin of a buffer, beside UCX's rcache", "ns", why);
		return;
	}
	compare("pin + unpin of a buffer (8 KiB of 2048), beside UCX's rcache",
		(struct side){ 1, pin_buffers, BUFFERS },
		(struct side){ 1, cached_buffers, BUFFERS }, BENCH_NO_GOAL, 0);
	if (bench_cpus() > 1)
		compare("  in two threads", (struct side){ 2, pin_buffers, BUFFERS },
			(struct side){ 2, cached_buffers, BUFFERS }, BENCH_NO_GOAL, 0);
	bench_rcache_stop();
}

int main(void)
{
	setup();
	alone();
	huge_page();
	if (bench_cpus() > 1)
		two_threads();
	beside_rcache();
	for (unsigned int i = 0; i < 2 * PAGES; i++)
		if (zd_page_count(pages[i]) != 1)
			bench_die("page %u: %u references are left", i, zd_page_count(pages[i]));
	bench_check(mem, 2 * PAGES * ZD_PAGE_SIZE);
	return zd_mm_close(mm) ? 1 : 0;
}
