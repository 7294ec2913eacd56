/* SPDX-License-Identifier: MIT */
/*
 * A device shrinks and grows while memory of the program is on it: what is above the new size
 * comes home, what is below stays, and a device that can't shrink now is as it was.
 */
#include "tests/integration/lib_gate.h"

#define N	600
#define SMALL	200

static struct zd_mm *mm;

static uint64_t live_from(struct zd_device *dev, char *mem, uint64_t first)
{
	static zd_pfn_t pfns[N];
	uint64_t nr = 0;

	CHECK_EQ(zd_migrate_device_pfns(mm, mem, N * PAGE, pfns, N), 0);
	for (int i = 0; i < N; i++)
		nr += pfns[i] && zd_device_page_index(dev, pfns[i]) >= first;
	return nr;
}

static void shrinks(struct zd_device *dev)
{
	char *p = evicted(mm, N, 1, dev);
	struct zd_migrate_result r;

	CHECK_EQ(zd_device_usable_pages(dev), N);
	CHECK_EQ(zd_device_resize(dev, SMALL), 0);
	CHECK_EQ(zd_device_usable_pages(dev), SMALL);
	CHECK_EQ(zd_device_live_pages(dev), SMALL);
	CHECK_EQ(live_from(dev, p, SMALL), 0);
	CHECK_EQ(resident(p, N), N - SMALL);
	/* full */
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(zd_device_live_pages(dev), SMALL);
	CHECK_FILLED(p, N, 1);
	/* and used again from below */
	migrate_out(mm, p, N * PAGE, SMALL, dev, &r);
	CHECK_EQ(r.moved, SMALL);
	CHECK_EQ(live_from(dev, p, SMALL), 0);
	/* a removal doesn't mind */
	CHECK_EQ(zd_device_resize(dev, N), 0);
	migrate_out(mm, p, N * PAGE, N - SMALL, dev, &r);
	CHECK_EQ(zd_device_live_pages(dev), N);
	CHECK_EQ(zd_device_resize(dev, 1), 0);
	CHECK_EQ(zd_device_unregister(dev), 0);
	CHECK_FILLED(p, N, 1);
	munmap(p, N * PAGE);
}

static int go[2];

static void child_reads(void *mem)
{
	char c;

	CHECK_EQ(read(go[0], &c, 1), 1);
	CHECK_FILLED((char *)mem, N, 2);
}

/* What a forked child has there comes home in it, also when its parent has dropped it. */
static void shared_with_a_child(void)
{
	struct zd_device *dev = ram_device(N);
	char *p = evicted(mm, N, 2, dev);
	pid_t child;

	CHECK(!pipe(go));
	child = child_start(child_reads, p);
	CHECK(!munmap(p, N * PAGE));
	CHECK_EQ(zd_device_resize(dev, SMALL), 0);
	CHECK_EQ(zd_device_live_pages(dev), SMALL);
	CHECK_EQ(write(go[1], "", 1), 1);
	child_ok(child);
	WAIT_FOR(!zd_device_live_pages(dev));
	CHECK_EQ(zd_device_unregister(dev), 0);
	close(go[0]);
	close(go[1]);
}

static bool stop;

/* Moves the memory on and on, each time over a mapping that keeps the place from others.  Returns
 * where the memory is. */
static void *mover_thread(void *arg)
{
	char *p = arg, *to;
	uint64_t seed = 5;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		to = mmap(NULL, N * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(to != MAP_FAILED);
		CHECK(mremap(p, N * PAGE, N * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
		p = to;
		usleep(rnd(&seed) % 500);
	}
	return p;
}

/* Memory that moves about, and goes out again, all the time. */
static void under_load(void)
{
	struct zd_device *dev = ram_device(2 * N);
	char *p = evicted(mm, N, 3, dev), *other = map(N);
	struct zd_migrate_result r;
	pthread_t thread;
	void *moved;

	fill(other, N, 4);
	CHECK_EQ(zd_mm_register(mm, other, N * PAGE), 0);
	CHECK_EQ(pthread_create(&thread, NULL, mover_thread, p), 0);
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(zd_migrate_to_device(mm, other, N * PAGE, dev, &r), 0);
		CHECK_EQ(zd_device_resize(dev, SMALL), 0);
		CHECK(zd_device_live_pages(dev) <= SMALL);
		CHECK_EQ(zd_device_resize(dev, 2 * N), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_join(thread, &moved), 0);
	CHECK_FILLED(moved, N, 3);
	CHECK_FILLED(other, N, 4);
	CHECK_EQ(zd_device_unregister(dev), 0);
	munmap(moved, N * PAGE);
	munmap(other, N * PAGE);
}

/* --- a driver that says what it is told --- */

static uint64_t told[8];	/* sizes, in order */
static unsigned int nr_told;

static int note_resize(struct zd_device *dev, uint64_t nr_pages)
{
	(void)dev;
	CHECK(nr_told < 8);
	told[nr_told++] = nr_pages;
	return 0;
}

/* A page that can't come home, a reference, a batch in flight: the device is as large as it was. */
static void cant_shrink(struct gate *g)
{
	char *p = evicted(mm, N, 5, &g->dev);
	struct zd_pagemap_holders h;
	struct zd_page *held;
	zd_pfn_t pfn;

	gate_error(g, ZD_FROM_DEVICE, -EIO);
	CHECK_EQ(zd_device_resize(&g->dev, SMALL), -EIO);
	gate_error(g, ZD_FROM_DEVICE, -EAGAIN);
	CHECK_EQ(zd_device_resize(&g->dev, SMALL), -EAGAIN);
	gate_error(g, ZD_FROM_DEVICE, 0);
	CHECK_EQ(stats(mm).pages_device, N);
	CHECK_EQ(stats(mm).pages_poisoned, 0);

	CHECK_EQ(zd_migrate_device_pfns(mm, p + (N - 1) * PAGE, PAGE, &pfn, 1), 0);
	CHECK(zd_device_page_index(&g->dev, pfn) >= SMALL);
	held = zd_pfn_to_page(pfn);
	zd_get_page(held);
	CHECK_EQ(zd_device_resize_timeout(&g->dev, SMALL, 50, &h), -ETIMEDOUT);
	CHECK_EQ(h.nr_pages, 1);
	CHECK_EQ(h.pfns[0], pfn);
	CHECK_EQ(zd_device_usable_pages(&g->dev), N);
	zd_put_page(held);
	for (unsigned int i = 0; i < 6; i += 2) {
		CHECK_EQ(told[i], SMALL);
		CHECK_EQ(told[i + 1], N);
	}
	CHECK_EQ(nr_told, 6);
	CHECK_FILLED(p, N, 5);
	munmap(p, N * PAGE);
	WAIT_FOR(!gate_used(g));
}

static void while_going_out(struct gate *g)
{
	struct migration m = { .mm = mm, .mem = map(512), .pages = 512, .dev = &g->dev };
	struct zd_pagemap_holders h;

	nr_told = 0;
	fill(m.mem, 512, 6);
	CHECK_EQ(zd_mm_register(mm, m.mem, 512 * PAGE), 0);
	migration_start(&m);
	CHECK_EQ(zd_device_resize_timeout(&g->dev, SMALL, 50, &h), -ETIMEDOUT);
	CHECK_EQ(h.nr_pages, 0);	/* none is live yet */
	CHECK_EQ(gate_waiting(g), 1);
	migration_finish(&m);
	CHECK_EQ(m.result.moved, 512);
	CHECK_EQ(zd_device_resize(&g->dev, SMALL), 0);
	CHECK_EQ(stats(mm).pages_device, SMALL);
	CHECK_FILLED(m.mem, 512, 6);
	munmap(m.mem, 512 * PAGE);
	WAIT_FOR(!gate_used(g));
}

int main(void)
{
	static struct zd_device_ops ops;
	struct gate *g = gate_device(N);

	zd_set_log(quiet, NULL);
	mm = open_mm();
	shrinks(ram_device(N));
	shrinks(file_device(N));
	shared_with_a_child();
	under_load();
	CHECK_EQ(zd_device_resize(&g->dev, SMALL), -EOPNOTSUPP);
	CHECK_EQ(zd_device_unregister(&g->dev), 0);
	ops = gate_ops;
	ops.resize = note_resize;
	g->dev.ops = &ops;
	gate_again(g);
	cant_shrink(g);
	while_going_out(g);
	close_mm(mm, &g->dev);
	return 0;
}
