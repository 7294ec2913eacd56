/* SPDX-License-Identifier: MIT */
/*
 * setup, pages, finalize: whose a device page in dst[] is, in every outcome.  In each
 * outcome the program's content is right, src[] says which pages went, and when the
 * program's memory is gone no device page is in use: the driver has them all again.
 */
#include <sys/prctl.h>

#include "base/alloc.h"
#include "tests/integration/lib_gate.h"

#define N 16

static struct zd_mm *mm;
static struct gate *g;
static unsigned int warnings;

static uint64_t src[N], dst[N];
static const void *data[N];

static void count_warnings(enum zd_log_level level, const char *text, void *ctx)
{
	(void)text;
	(void)ctx;
	if (level == ZD_LOG_WARN)
		__atomic_add_fetch(&warnings, 1, __ATOMIC_RELAXED);
}

static char *filled(uint64_t tag)
{
	char *p = map(N);

	fill(p, N, tag);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	return p;
}

static struct zd_migrate_vma setup(char *p)
{
	struct zd_migrate_vma a = {
		.mm = mm, .dev = &g->dev, .start = p, .end = p + N * PAGE,
		.src = src, .dst = dst, .data = data,
	};

	memset(dst, 0xa5, sizeof(dst));		/* setup clears it */
	CHECK_EQ(zd_migrate_vma_setup(&a), 0);
	for (int i = 0; i < N; i++)
		CHECK_EQ(dst[i], 0);
	return a;
}

/* A new device page, with page @i's content if setup has collected that. */
static zd_pfn_t device_page(int i, bool init)
{
	zd_pfn_t pfn;

	CHECK_EQ(gate_alloc(&g->dev, 1, &pfn), 1);
	if (init)
		CHECK_EQ(zd_page_init(zd_pfn_to_page(pfn)), 0);
	if (data[i])
		memcpy(gate_page(&g->dev, pfn), data[i], PAGE);
	return pfn;
}

static void offer(int i, bool init)
{
	dst[i] = zd_migrate_pfn(device_page(i, init));
}

static uint64_t went(void)
{
	uint64_t set = 0;

	for (int i = 0; i < N; i++)
		set |= (uint64_t) !!(src[i] & ZD_MIGRATE_PFN_MIGRATE) << i;
	return set;
}

static void check_sum(const struct zd_migrate_result *r)
{
	CHECK_EQ(r->moved + r->zero + r->already + r->absent + r->pinned + r->shared +
			 r->protection + r->busy + r->device,
		 N);
}

/* Unmap @p: nothing of it is left on the device. */
static void end(char *p)
{
	munmap(p, N * PAGE);
	WAIT_FOR(!zd_device_live_pages(&g->dev));
	settle(mm);
	CHECK_EQ(gate_used(g), 0);
}

/* Initialised by the driver, or as ->alloc_pages gave them: all go. */
static void either(bool init)
{
	char *p = filled(1);
	struct zd_migrate_vma a = setup(p);

	for (int i = 0; i < N; i++)
		if (i % 4 != 3)
			offer(i, init);
	zd_migrate_vma_pages(&a);
	CHECK_EQ(went(), 0x7777);
	CHECK_EQ(zd_device_live_pages(&g->dev), 12);
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(a.result.moved, 12);
	CHECK_EQ(a.result.device, 4);
	check_sum(&a.result);
	CHECK_EQ(gate_used(g), 12);
	for (int i = 0; i < N; i++)		/* one reference each: the mapping's */
		if (i % 4 != 3)
			CHECK_EQ(zd_page_count(zd_pfn_to_page(zd_migrate_pfn_to_pfn(dst[i]))), 1);
	CHECK_FILLED(p, N, 1);
	settle(mm);
	CHECK_EQ(gate_used(g), 0);
	end(p);
}

/* No device page is offered: nothing has happened. */
static void nothing(void)
{
	char *p = filled(2);
	struct zd_migrate_vma a = setup(p);

	zd_migrate_vma_pages(&a);
	CHECK_EQ(went(), 0);
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(a.result.device, N);
	check_sum(&a.result);
	CHECK_EQ(resident(p, N), N);
	CHECK_FILLED(p, N, 2);
	end(p);
}

/* Untouched pages, pages on the device already, held pages: device pages that are offered for
 * them come back; and the pages after them go. */
static void no_source(void)
{
	char *p = filled(3);
	struct zd_page *held;
	struct zd_migrate_vma a;

	evict(mm, p + 4 * PAGE, 2, &g->dev);
	CHECK(!madvise(p + 8 * PAGE, PAGE, MADV_DONTNEED));
	CHECK_EQ(zd_get_user_pages_fast(mm, p + 2 * PAGE, 1, 0, &held), 1);
	a = setup(p);
	CHECK_EQ(a.cpages, N - 4);
	for (int i = 0; i < N; i++)
		offer(i, true);
	zd_migrate_vma_pages(&a);
	CHECK_EQ(went(), 0xffff & ~(1 << 2 | 3 << 4 | 1 << 8));
	CHECK_EQ(gate_used(g), N + 2);	/* the driver may use them until finalize */
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(gate_used(g), N - 2);
	CHECK_EQ(a.result.moved, N - 4);
	CHECK_EQ(a.result.already, 2);
	CHECK_EQ(a.result.pinned, 1);
	CHECK_EQ(a.result.absent, 1);
	check_sum(&a.result);
	zd_put_page(held);
	CHECK_EQ(bad_page(p, 0, 8, 3), 8);
	CHECK_EQ(bad_page(p, 9, N, 3), N);
	CHECK(is_zero(p + 8 * PAGE, PAGE));
	end(p);
}

/* Pages of zeros go to the device pages that were chosen, and what the device writes there
 * is what the program reads. */
static void zeros(void)
{
	char *p = map(N);
	struct zd_migrate_vma a;

	memset(p, 0, N * PAGE);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	for (int i = 0; i < N; i++)
		*(volatile char *)(p + i * PAGE) = 0;
	a = setup(p);
	CHECK_EQ(a.cpages, N);
	for (int i = 0; i < N; i++)
		offer(i, true);
	zd_migrate_vma_pages(&a);
	CHECK_EQ(went(), 0xffff);
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(a.result.moved, N);
	CHECK_EQ(a.result.zero, 0);
	fill(gate_page(&g->dev, zd_migrate_pfn_to_pfn(dst[5])), 1, 4);
	CHECK_FILLED(p + 5 * PAGE, 1, 4);
	CHECK(is_zero(p, 5 * PAGE));
	end(p);
}

/* An entry of dst[] that names no page which can be had is left alone. */
static void garbage(void)
{
	struct zd_device *other = ram_device(N);
	char *p = filled(5), *q = filled(6);
	struct zd_page *page;
	zd_pfn_t mapped, foreign;
	struct zd_migrate_vma a;
	uint64_t as_given[N];
	unsigned int before;

	evict(mm, q, 1, &g->dev);
	CHECK_EQ(zd_migrate_device_pfns(mm, q, PAGE, &mapped, 1), 0);
	a = setup(p);
	CHECK_EQ(other->ops->alloc_pages(other, 1, &foreign), 1);
	CHECK_EQ(zd_page_init(zd_pfn_to_page(foreign)), 0);
	offer(0, true);
	dst[1] = dst[0];					/* twice */
	dst[2] = zd_migrate_pfn(mapped);			/* a page of the program is there */
	dst[3] = 0xdeadbeef;
	dst[4] = UINT64_MAX;
	dst[5] = zd_migrate_pfn(g->dev.pgmap.pfn + g->dev.nr_pages);
	dst[6] = zd_migrate_pfn(g->dev.pgmap.pfn - 1);
	dst[7] = zd_migrate_pfn(0);
	dst[8] = zd_migrate_pfn(foreign);			/* another device's */
	offer(9, true);
	dst[9] &= ~(uint64_t)ZD_MIGRATE_PFN_VALID;
	offer(10, true);
	dst[10] |= ZD_MIGRATE_PFN_MIGRATE;
	dst[11] = ZD_MIGRATE_PFN_VALID;
	memcpy(as_given, dst, sizeof(dst));
	before = warnings;
	zd_migrate_vma_pages(&a);
	CHECK_EQ(went(), 1);
	CHECK_EQ(warnings, before + 1);				/* once */
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(a.result.moved, 1);
	check_sum(&a.result);
	CHECK(!memcmp(as_given, dst, sizeof(dst)));
	for (int i = 9; i <= 10; i++) {				/* still the driver's */
		page = zd_pfn_to_page(zd_migrate_pfn_to_pfn(dst[i]));
		CHECK_EQ(zd_page_count(page), 1);
		zd_put_page(page);
	}
	CHECK_EQ(zd_page_count(zd_pfn_to_page(foreign)), 1);
	zd_put_page(zd_pfn_to_page(foreign));
	CHECK_EQ(zd_device_unregister(other), 0);
	CHECK_FILLED(p, N, 5);
	CHECK_FILLED(q, N, 6);
	munmap(q, N * PAGE);
	end(p);
}

/* The driver calls finalize without pages. */
static void given_up(void)
{
	char *p = filled(7);
	struct zd_migrate_vma a = setup(p);
	zd_pfn_t mine;

	for (int i = 0; i < 8; i++)
		offer(i, true);
	mine = device_page(8, false);
	dst[8] = zd_migrate_pfn(mine);
	dst[9] = 0xdeadbeef;
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(went(), 0);
	CHECK_EQ(a.result.moved, 0);
	check_sum(&a.result);
	CHECK_EQ(gate_used(g), 1);
	gate_unalloc(&g->dev, 1, &mine);	/* never initialised: the driver's */
	CHECK_EQ(resident(p, N), N);
	CHECK_FILLED(p, N, 7);
	end(p);
}

/* The driver keeps the reference of a page that didn't go. */
static void kept(void)
{
	char *p = filled(8);
	struct zd_migrate_vma a = setup(p);
	struct zd_page *page;

	CHECK(!munmap(p, PAGE));
	offer(0, true);
	page = zd_pfn_to_page(zd_migrate_pfn_to_pfn(dst[0]));
	zd_migrate_vma_pages(&a);
	CHECK_EQ(went(), 0);
	dst[0] = 0;
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(zd_page_count(page), 1);
	CHECK_EQ(zd_page_private(page), 0);
	zd_put_page(page);
	CHECK_EQ(gate_used(g), 0);
	end(p);
}

/* A driver that puts the page itself, and clears the entry too late. */
static void put_twice(void)
{
	char *p = filled(9);
	struct zd_migrate_vma a = setup(p);
	unsigned int before;

	CHECK(!munmap(p, PAGE));
	offer(0, true);
	zd_migrate_vma_pages(&a);
	zd_put_page(zd_pfn_to_page(zd_migrate_pfn_to_pfn(dst[0])));
	before = warnings;
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(warnings, before + 1);
	CHECK_EQ(gate_used(g), 0);
	end(p);
}

/* The device is removed between the steps: no page goes any more, all come back. */
static void removed(bool init)
{
	struct zd_pagemap_holders h;
	char *p = filled(10);
	struct zd_migrate_vma a = setup(p);

	for (int i = 0; i < 8; i++)
		offer(i, init);
	CHECK_EQ(zd_device_unregister_timeout(&g->dev, 10, &h), -ETIMEDOUT);
	CHECK_EQ(h.nr_pages, init ? 8 : 0);
	CHECK(h.nr_refs);
	dst[8] = zd_migrate_pfn(device_page(8, false));
	CHECK_EQ(zd_page_init(zd_pfn_to_page(zd_migrate_pfn_to_pfn(dst[8]))), -ENODEV);
	zd_migrate_vma_pages(&a);
	CHECK_EQ(went(), 0);
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(a.result.moved, 0);
	check_sum(&a.result);
	CHECK_EQ(gate_used(g), 0);
	CHECK_FILLED(p, N, 10);
	/* a set of steps that begins now has no pages */
	a = setup(p);
	CHECK_EQ(a.cpages, 0);
	zd_migrate_vma_pages(&a);
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(a.result.device, N);
	CHECK_EQ(zd_device_unregister_timeout(&g->dev, PATIENCE * 1000, NULL), 0);
	gate_again(g);
	end(p);
}

/* Steps in the wrong order warn, and do nothing. */
static void order(void)
{
	char *p = filled(11);
	struct zd_migrate_vma a = {
		.mm = mm, .dev = &g->dev, .start = p, .end = p + N * PAGE,
		.src = src, .dst = dst, .data = data,
	};
	unsigned int before = warnings;

	zd_alloc_fail_nth(1);
	CHECK_EQ(zd_migrate_vma_setup(&a), -ENOMEM);
	zd_alloc_fail_nth(0);
	CHECK_EQ(a.cpages, 0);
	zd_migrate_vma_pages(&a);
	zd_migrate_vma_finalize(&a);
	zd_migrate_vma_finalize(NULL);
	CHECK_EQ(warnings, before + 1);
	a = setup(p);
	offer(0, true);
	zd_migrate_vma_pages(&a);
	offer(1, true);
	zd_migrate_vma_pages(&a);
	CHECK_EQ(went(), 1);
	zd_put_page(zd_pfn_to_page(zd_migrate_pfn_to_pfn(dst[1])));
	zd_migrate_vma_finalize(&a);
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(a.result.moved, 1);
	CHECK_FILLED(p, N, 11);
	end(p);
}

/* --- steps that another process can't finish, or that are never finished --- */

static struct zd_migrate_vma open_steps;

static void not_mine(void *pages_too)
{
	if (pages_too) {
		zd_migrate_vma_pages(&open_steps);
		CHECK_EQ(went(), 0);
	}
	zd_migrate_vma_finalize(&open_steps);
	CHECK_EQ(gate_used(g), 1);	/* nor is the parent's device page given back */
	_exit(0);
}

static void in_a_child(void)
{
	char *p = filled(12);
	struct zd_migrate_vma *a = &open_steps;

	*a = setup(p);
	offer(0, true);
	child_ok(child_start(not_mine, NULL));
	child_ok(child_start(not_mine, a));
	CHECK_EQ(zd_mm_close(mm), -EBUSY);
	zd_migrate_vma_pages(a);
	CHECK_EQ(went(), 1);
	CHECK_EQ(zd_mm_close(mm), -EBUSY);
	zd_migrate_vma_finalize(a);
	CHECK_EQ(a->result.moved, 1);
	CHECK_FILLED(p, N, 12);
	end(p);
}

/* A process that exits between the steps does end, and its child has the content. */
static char *exit_mem;
static int exit_pipe[2];

static void grandchild(void *arg)
{
	char c;

	(void)arg;
	close(exit_pipe[1]);
	CHECK_EQ(read(exit_pipe[0], &c, 1), 0);		/* the parent is gone */
	_exit(bad_page(exit_mem, 0, N, 13) == N ? 0 : 1);
}

static void exits(void *arg)
{
	int *status_pipe = arg;
	struct zd_device *dev;
	pid_t pid;

	mm = open_mm();
	dev = ram_device(N);
	exit_mem = filled(13);
	open_steps = (struct zd_migrate_vma){
		.mm = mm, .dev = dev, .start = exit_mem,
		.end = exit_mem + N * PAGE, .src = src, .dst = dst, .data = data,
	};
	CHECK_EQ(zd_migrate_vma_setup(&open_steps), 0);
	CHECK_EQ(open_steps.cpages, N);
	CHECK(!pipe(exit_pipe));
	pid = child_start(grandchild, NULL);
	CHECK_EQ(write(status_pipe[1], &pid, sizeof(pid)), sizeof(pid));
	exit(0);
}

__attribute__((unused)) static void exit_in_the_middle(void)
{
	int status_pipe[2];
	pid_t pid, grand;

	CHECK(!pipe(status_pipe));
	CHECK(!prctl(PR_SET_CHILD_SUBREAPER, 1));
	pid = child_start(exits, status_pipe);
	CHECK_EQ(read(status_pipe[0], &grand, sizeof(grand)), sizeof(grand));
	child_ok(pid);
	child_ok(grand);
	CHECK(!prctl(PR_SET_CHILD_SUBREAPER, 0));
}

int main(void)
{
	zd_set_log(count_warnings, NULL);
	mm = open_mm();
	g = gate_device(4 * N);
	either(true);
	either(false);
	nothing();
	no_source();
	zeros();
	garbage();
	given_up();
	kept();
	put_twice();
	removed(true);
	removed(false);
	order();
	in_a_child();
	close_mm(mm, &g->dev);
#ifndef __SANITIZE_THREAD__	/* the sanitizer doesn't support threads after such a fork */
	exit_in_the_middle();
#endif
	return 0;
}
