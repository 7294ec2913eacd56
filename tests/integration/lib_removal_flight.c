/* SPDX-License-Identifier: MIT */
/*
 * A device is removed while pages are on their way to it, or home, or wanted by
 * several threads at once; and while the device answers nothing.
 *
 * The gate keeps batches in flight for as long as a test likes.  "Removal has begun"
 * is when new references fail.
 */
#include "tests/integration/lib_gate.h"

#define N 300

static struct zd_mm *mm;
static struct gate *g;

struct removal {
	int rc;
	bool done;	/* __atomic */
	pthread_t thread;
};

static void *removal_thread(void *arg)
{
	struct removal *r = arg;

	r->rc = zd_device_unregister(&g->dev);
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool has_begun(void)
{
	struct zd_pagemap *held = zd_get_dev_pagemap(g->dev.pgmap.pfn);

	if (held)
		zd_put_dev_pagemap(held);
	return !held;
}

static void removal_start(struct removal *r)
{
	r->done = false;
	CHECK_EQ(pthread_create(&r->thread, NULL, removal_thread, r), 0);
	WAIT_FOR(has_begun());
	CHECK(!__atomic_load_n(&r->done, __ATOMIC_ACQUIRE));
}

static void removal_join(struct removal *r)
{
	WAIT_FOR(__atomic_load_n(&r->done, __ATOMIC_ACQUIRE));
	CHECK_EQ(pthread_join(r->thread, NULL), 0);
	CHECK_EQ(r->rc, 0);
	CHECK_EQ(gate_used(g), 0);
}

static char *filled(uint64_t tag)
{
	char *p = map(N);

	fill(p, N, tag);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	return p;
}

/*
 * On the way out: pages that have not arrived go back, and a thread that needs one has it
 * before the device answers.
 *
 * Linux 6.1: a driver that still hands out pages when memunmap_pages() has begun makes
 * zone_device_page_init() warn, and goes on with a page that holds nothing: drivers must
 * stop migrating before they remove, by locks of their own.
 */
static void on_the_way_out(int write_error)
{
	struct migration m = { .mm = mm, .mem = filled(1), .pages = N, .dev = &g->dev };
	struct removal r;
	struct toucher t;

	migration_start(&m);
	toucher_start(&t, mm, (char *)m.mem + 20 * PAGE);
	CHECK_EQ(toucher_join(&t), word(1, 20, 0));
	removal_start(&r);
	gate_error(g, ZD_TO_DEVICE, write_error);
	migration_finish(&m);
	removal_join(&r);
	CHECK_EQ(m.result.moved, 0);
	CHECK_EQ(m.result.device + m.result.busy, N);
	CHECK_EQ(resident(m.mem, N), N);
	CHECK_FILLED(m.mem, N, 1);
	munmap(m.mem, N * PAGE);
	gate_again(g);
}

/*
 * On the way home, by a fault: the page lands as ever, and the others follow.
 *
 * Linux 6.1: do_swap_page() takes a reference to the device page under the page table's
 * lock before it calls ->migrate_to_ram (mm/memory.c), and the page holds pgmap->ref: so
 * memunmap_pages() waits for it.  migrate_device_range(), which a driver calls to empty
 * the device, skips a page that is locked by such a fault (mm/migrate_device.c); nouveau
 * calls it once, and then relies on the wait.
 */
static void on_the_way_home(void)
{
	char *p = filled(2);
	struct removal r;
	struct toucher t;

	evict(mm, p, N, &g->dev);
	gate_close(g);
	toucher_start(&t, mm, p + 7 * PAGE);
	removal_start(&r);
	CHECK(!toucher_done(&t));
	gate_open(g);
	CHECK_EQ(toucher_join(&t), word(2, 7, 0));
	removal_join(&r);
	CHECK_EQ(resident(p, N), N);
	CHECK_FILLED(p, N, 2);
	munmap(p, N * PAGE);
	gate_again(g);
}

/* On the way home by zd_migrate_to_ram(), and unmapped meanwhile: the pages go nowhere. */
static void *to_ram_thread(void *p)
{
	CHECK_EQ(zd_migrate_to_ram(mm, p, N * PAGE, NULL), 0);
	return NULL;
}

static void unmapped_on_the_way_home(void)
{
	char *p = filled(3);
	struct removal r;
	pthread_t t;

	evict(mm, p, N, &g->dev);
	gate_close(g);
	CHECK_EQ(pthread_create(&t, NULL, to_ram_thread, p), 0);
	WAIT_FOR(gate_waiting(g));
	removal_start(&r);
	CHECK(!munmap(p, N / 2 * PAGE));
	gate_open(g);
	removal_join(&r);
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK_EQ(bad_page(p, N / 2, N, 3), N);
	munmap(p + N / 2 * PAGE, (N - N / 2) * PAGE);
	gate_again(g);
}

/*
 * Two threads and the removal want one page at once: the page comes home once, and both
 * threads get it.
 *
 * Linux 6.1: the second fault finds the page locked or the entry changed (pte_same())
 * and faults again.
 */
static void wanted_by_two(void)
{
	char *p = filled(4);
	struct toucher t[2];
	struct removal r;
	uint64_t home = stats(mm).pages_home;

	evict(mm, p, N, &g->dev);
	gate_close(g);
	toucher_start(&t[0], mm, p + 9 * PAGE);
	toucher_start(&t[1], mm, p + 9 * PAGE + 8);
	removal_start(&r);
	CHECK(!toucher_done(&t[0]) && !toucher_done(&t[1]));
	gate_open(g);
	CHECK_EQ(toucher_join(&t[0]), word(4, 9, 0));
	CHECK_EQ(toucher_join(&t[1]), word(4, 9, 1));
	removal_join(&r);
	CHECK_EQ(stats(mm).pages_home - home, N);
	CHECK_FILLED(p, N, 4);
	munmap(p, N * PAGE);
	gate_again(g);
}

/* The same with the removal first: the threads find the page in the removal's batch. */
static void wanted_by_two_later(void)
{
	char *p = filled(5);
	struct toucher t[2];
	struct removal r;

	evict(mm, p, N, &g->dev);
	gate_close(g);
	removal_start(&r);
	WAIT_FOR(gate_waiting(g));
	toucher_start(&t[0], mm, p + 11 * PAGE);
	toucher_start(&t[1], mm, p + 11 * PAGE + 8);
	CHECK(!toucher_done(&t[0]) && !toucher_done(&t[1]));
	gate_open(g);
	CHECK_EQ(toucher_join(&t[0]), word(5, 11, 0));
	CHECK_EQ(toucher_join(&t[1]), word(5, 11, 1));
	removal_join(&r);
	CHECK_FILLED(p, N, 5);
	munmap(p, N * PAGE);
	gate_again(g);
}

/*
 * The device answers nothing, with pages on their way out.  They hold no page of the device
 * yet: the batch is reported.  What the device answers at last does no harm.
 *
 * Linux 6.1: a driver that waits for a copy engine that has died waits as long as its
 * own fence timeout says; memunmap_pages() has none.
 */
static void no_answer_out(void)
{
	struct migration m = { .mm = mm, .mem = filled(6), .pages = N, .dev = &g->dev };
	struct zd_pagemap_holders h;
	struct zd_migrate_result r;
	char *other = filled(60);

	migration_start(&m);
	for (int i = 0; i < 3; i++) {
		memset(&h, 0xff, sizeof(h));
		CHECK_EQ(zd_device_unregister_timeout(&g->dev, 10 * i, &h), -ETIMEDOUT);
		CHECK_EQ(h.nr_pages, 0);
		CHECK_EQ(h.nr_pfns, 0);
		CHECK_EQ(h.nr_refs, 1);
	}
	/* no new page goes to the device */
	CHECK(has_begun());
	CHECK_EQ(zd_migrate_to_device(mm, other, N * PAGE, &g->dev, &r), 0);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(r.device, N);
	CHECK_EQ(gate_used(g), N);

	migration_finish(&m);
	CHECK_EQ(m.result.device + m.result.busy, N);
	CHECK_EQ(gate_used(g), 0);
	CHECK_FILLED(m.mem, N, 6);
	CHECK_EQ(zd_device_unregister_timeout(&g->dev, PATIENCE * 1000, NULL), 0);
	CHECK_FILLED(other, N, 60);
	munmap(m.mem, N * PAGE);
	munmap(other, N * PAGE);
	gate_again(g);
}

/* The same with pages on their way home: the report names them. */
static void no_answer_home(void)
{
	struct zd_pagemap_holders h = { 0 };
	struct toucher t;
	char *p = filled(7);
	zd_pfn_t pfns[N];

	evict(mm, p, N, &g->dev);
	CHECK_EQ(zd_migrate_device_pfns(mm, p, N * PAGE, pfns, N), 0);
	gate_close(g);
	toucher_start(&t, mm, p + 3 * PAGE);
	CHECK_EQ(zd_device_unregister_timeout(&g->dev, 20, &h), -ETIMEDOUT);
	CHECK_EQ(h.nr_pages, N);
	CHECK_EQ(h.nr_pfns, ZD_PAGEMAP_HOLDER_PFNS);
	for (unsigned int i = 0; i < h.nr_pfns; i++) {
		size_t k = 0;

		while (k < N && pfns[k] != h.pfns[i])
			k++;
		CHECK(k < N);
	}
	CHECK(!toucher_done(&t));
	/* the device answers while no thread is removing it */
	gate_open(g);
	CHECK_EQ(toucher_join(&t), word(7, 3, 0));
	WAIT_FOR(!gate_waiting(g));
	CHECK_EQ(zd_device_unregister_timeout(&g->dev, PATIENCE * 1000, &h), 0);
	CHECK_EQ(gate_used(g), 0);
	CHECK_FILLED(p, N, 7);
	munmap(p, N * PAGE);
	gate_again(g);
}

int main(void)
{
	mm = open_mm();
	g = gate_device(2 * N);
	on_the_way_out(0);
	on_the_way_out(-EIO);
	on_the_way_home();
	unmapped_on_the_way_home();
	wanted_by_two();
	wanted_by_two_later();
	no_answer_out();
	no_answer_home();
	close_mm(mm, &g->dev);
	return 0;
}
