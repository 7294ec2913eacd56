/* SPDX-License-Identifier: MIT */
/*
 * The adapter for drivers that block: what workers do first, and what becomes of batches whose
 * calls fail, are late, or don't return.  The driver here is memory; a test can make its calls
 * fail, or hold them at a gate.
 */
#include "unit_test.h"
#include "drivers_common.h"

#include <pthread.h>
#include <sched.h>

#include "base/alloc.h"
#include "drivers/blocking/blocking.h"
#include "zonedev/log.h"

#define PAGES 4096UL
#define MAX_CALLS 4096

enum { READ, WRITE, DISCARD, NR_KINDS };

struct call {
	int kind;
	uint64_t first, nr;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t change;
	char *mem;
	bool closed_gate[NR_KINDS];
	int error[NR_KINDS];		/* of calls that meet the bad pages */
	uint64_t bad_first, bad_nr;
	unsigned int inside[NR_KINDS], most[NR_KINDS], nr_calls;
	struct call call[MAX_CALLS];
	unsigned int closed;
	uint64_t nr_pages;		/* that the last resize left */
	int resize_error;
} fake = { .lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER };

/* Note the call, and wait while its gate is closed. */
static int enter(int kind, uint64_t first, uint64_t nr)
{
	int rc = 0;

	pthread_mutex_lock(&fake.lock);
	if (fake.nr_calls < MAX_CALLS)
		fake.call[fake.nr_calls++] = (struct call){ kind, first, nr };
	if (++fake.inside[kind] > fake.most[kind])
		fake.most[kind] = fake.inside[kind];
	pthread_cond_broadcast(&fake.change);
	while (fake.closed_gate[kind])
		pthread_cond_wait(&fake.change, &fake.lock);
	if (first < fake.bad_first + fake.bad_nr && fake.bad_first < first + nr)
		rc = fake.error[kind];
	fake.inside[kind]--;
	pthread_cond_broadcast(&fake.change);
	pthread_mutex_unlock(&fake.lock);
	return rc;
}

static int fake_read(void *priv, uint64_t first, unsigned int nr, void *buf)
{
	int rc = enter(READ, first, nr);

	assert_ptr_equal(priv, &fake);
	if (!rc)
		memcpy(buf, fake.mem + first * ZD_PAGE_SIZE, nr * ZD_PAGE_SIZE);
	return rc;
}

static int fake_write(void *priv, uint64_t first, unsigned int nr, const void *buf)
{
	int rc = enter(WRITE, first, nr);

	assert_ptr_equal(priv, &fake);
	if (!rc)
		memcpy(fake.mem + first * ZD_PAGE_SIZE, buf, nr * ZD_PAGE_SIZE);
	return rc;
}

static int fake_discard(void *priv, uint64_t first, uint64_t nr)
{
	assert_ptr_equal(priv, &fake);
	return enter(DISCARD, first, nr);
}

static int fake_stats(void *priv, struct zd_device_stat *stats, unsigned int nr)
{
	assert_ptr_equal(priv, &fake);
	if (nr)
		stats[0] = (struct zd_device_stat){ "own", 42 };
	return 1;
}

static int fake_resize(void *priv, uint64_t nr_pages)
{
	assert_ptr_equal(priv, &fake);
	if (fake.resize_error)
		return fake.resize_error;
	fake.nr_pages = nr_pages;
	return 0;
}

static void fake_close(void *priv)
{
	assert_ptr_equal(priv, &fake);
	fake.closed++;
}

static const struct zd_blocking_ops fake_ops = {
	.size = sizeof(fake_ops), .version = ZD_BLOCKING_OPS_VERSION,
	.read = fake_read,   .write = fake_write, .discard = fake_discard,
	.stats = fake_stats, .close = fake_close, .resize = fake_resize,
};

static void gate(int kind, bool closed)
{
	pthread_mutex_lock(&fake.lock);
	fake.closed_gate[kind] = closed;
	pthread_cond_broadcast(&fake.change);
	pthread_mutex_unlock(&fake.lock);
}

/* Until @nr calls are at the gate. */
static void wait_inside(int kind, unsigned int nr)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_MS / 1000;
	pthread_mutex_lock(&fake.lock);
	while (fake.inside[kind] != nr)
		assert_int_equal(pthread_cond_timedwait(&fake.change, &fake.lock, &until), 0);
	pthread_mutex_unlock(&fake.lock);
}

static void make_bad(int kind, int error, uint64_t first, uint64_t nr)
{
	pthread_mutex_lock(&fake.lock);
	fake.error[kind] = error;
	fake.bad_first = first;
	fake.bad_nr = nr;
	pthread_mutex_unlock(&fake.lock);
}

static void quiet(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)level, (void)msg, (void)ctx;
}

static struct zd_device *dev;
static zd_pfn_t pfns[PAGES];
static struct zd_io_page pages[PAGES];
static char *buf;

static void create(unsigned int threads, unsigned int deadline_ms)
{
	struct zd_blocking_attr attr = {
		.size = sizeof(attr), .name = "fake", .nr_pages = PAGES, .threads = threads,
		.deadline_ms = deadline_ms, .ops = &fake_ops, .priv = &fake,
	};

	memset(fake.closed_gate, 0, sizeof(fake.closed_gate));
	memset(fake.error, 0, sizeof(fake.error));
	memset(fake.most, 0, sizeof(fake.most));
	fake.nr_calls = fake.closed = 0;
	fake.bad_nr = 0;
	assert_int_equal(zd_blocking_device_create(&attr, &dev), 0);
	/* the whole device, so that a page's index is its place in pfns, pages and buf */
	assert_int_equal(dev->ops->alloc_pages(dev, PAGES, pfns), PAGES);
	for (unsigned int i = 0; i < PAGES; i++)
		assert_int_equal(zd_device_page_index(dev, pfns[i]), i);
	set_pages(pages, pfns, PAGES, buf);
}

static void finish(void)
{
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_int_equal(fake.closed, 1);
}

static double stat_of(const char *name)
{
	struct zd_device_stat stats[32];
	int nr = dev->ops->stats(dev, stats, 32);

	assert_in_range(nr, 1, 32);
	for (int i = 0; i < nr; i++)
		if (!strcmp(stats[i].name, name))
			return stats[i].value;
	fail_msg("no statistic %s", name);
	return 0;
}

/* --- runs, and errors --- */

static void neighbours_are_one_call(void **state)
{
	(void)state;
	create(1, 0);
	do_io_ok(dev, ZD_TO_DEVICE, pages, 100);
	assert_int_equal(fake.nr_calls, 2);	/* 64 and 36 */
	assert_int_equal(fake.call[0].nr, ZD_BLOCKING_RUN);
	assert_int_equal(fake.call[1].first, ZD_BLOCKING_RUN);
	assert_int_equal(fake.call[1].nr, 36);
	pages[10].pfn = pfns[11];
	pages[11].pfn = pfns[10];
	do_io_ok(dev, ZD_FROM_DEVICE, pages, 20);
	assert_int_equal(fake.nr_calls, 2 + 4);	/* 0-9, 11, 10, 12-19 */
	assert_int_equal(stat_of("reads"), 4);
	assert_int_equal(stat_of("read_pages"), 20);
	assert_int_equal(stat_of("write_pages"), 100);
	assert_true(stat_of("read_us") > 0 && stat_of("read_p99_us") > 0);
	assert_int_equal(stat_of("queued") + stat_of("late") + stat_of("errors"), 0);
	assert_int_equal(stat_of("own"), 42);
	/* fewer are asked for than there are */
	assert_true(dev->ops->stats(dev, (struct zd_device_stat[2]){ { 0 } }, 2) > 10);
	finish();
}

static void check_error(enum zd_io_dir dir, int error, int want, bool page_alone)
{
	int kind = dir == ZD_TO_DEVICE ? WRITE : READ;

	make_bad(kind, error, 7, 1);
	do_io(dev, dir, pages, 16);
	for (unsigned int i = 0; i < 16; i++)
		assert_int_equal(pages[i].error, page_alone && i != 7 ? 0 : want);
	make_bad(kind, 0, 0, 0);
}

/* Broken looks like: a page that can be read fails since its neighbour can't. */
static void an_error_is_of_the_page_or_of_the_device(void **state)
{
	(void)state;
	for (unsigned int deadline = 0; deadline <= PATIENCE_MS; deadline += PATIENCE_MS) {
		create(2, deadline);
		for (enum zd_io_dir dir = ZD_TO_DEVICE; dir <= ZD_FROM_DEVICE; dir++) {
			check_error(dir, -EIO, -EIO, true);
			check_error(dir, -ENOSPC, -ENOSPC, true);
			check_error(dir, 5, -EIO, true);	/* not an errno */
			check_error(dir, -EAGAIN, -EAGAIN, false);
			check_error(dir, -ETIMEDOUT, -ETIMEDOUT, false);
		}
		assert_int_equal(stat_of("retries"), 2 * 3 * 16);
		assert_int_equal(stat_of("errors"), 2 * (3 + 2 * 16));
		finish();
	}
}

/* --- who is first --- */

static void reads_go_first_and_writes_all_the_same(void **state)
{
	struct zd_device_io io[1 + 40 + 20];
	unsigned int nr = 0, reads = 0, writes = 0;

	(void)state;
	create(1, 0);
	gate(WRITE, true);
	start_io(dev, &io[nr], ZD_TO_DEVICE, pages + nr, 1);
	nr++;
	wait_inside(WRITE, 1);
	for (; nr < 1 + 20; nr++)
		start_io(dev, &io[nr], ZD_TO_DEVICE, pages + nr, 1);
	for (; nr < 1 + 20 + 40; nr++)
		start_io(dev, &io[nr], ZD_FROM_DEVICE, pages + nr, 1);
	gate(WRITE, false);
	for (unsigned int i = 0; i < nr; i++)
		wait_io(dev, &io[i]);
	/* eight reads to a write, until there are no more reads */
	for (unsigned int i = 1; i < 1 + 45; i++) {
		reads += fake.call[i].kind == READ;
		writes += fake.call[i].kind == WRITE;
		assert_int_equal(fake.call[i].kind, i % 9 ? READ : WRITE);
	}
	assert_int_equal(reads, 40);
	assert_int_equal(writes, 5);
	finish();
}

static void writes_leave_a_worker_for_reads(void **state)
{
	struct zd_device_io io[8], read;

	(void)state;
	create(3, 0);
	gate(WRITE, true);
	for (unsigned int i = 0; i < 8; i++)
		start_io(dev, &io[i], ZD_TO_DEVICE, pages + i, 1);
	wait_inside(WRITE, 2);
	start_io(dev, &read, ZD_FROM_DEVICE, pages + 100, 10);
	wait_io(dev, &read);
	assert_int_equal(stat_of("running"), 2);
	assert_int_equal(stat_of("queued"), 6);
	gate(WRITE, false);
	for (unsigned int i = 0; i < 8; i++)
		wait_io(dev, &io[i]);
	assert_int_equal(fake.most[WRITE], 2);
	finish();
}

/* --- deadlines --- */

static void what_is_late_is_answered(void **state)
{
	struct zd_device_io io[3];

	(void)state;
	create(1, 50);
	gate(READ, true);
	memset(buf, 0x11, 64 * ZD_PAGE_SIZE);
	start_io(dev, &io[0], ZD_FROM_DEVICE, pages, 4);		/* in the driver */
	wait_inside(READ, 1);
	start_io(dev, &io[1], ZD_FROM_DEVICE, pages + 10, 4);	/* never begun */
	start_io(dev, &io[2], ZD_TO_DEVICE, pages + 20, 4);
	for (unsigned int i = 0; i < 3; i++)
		wait_io(dev, &io[i]);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(pages[i].error, -EAGAIN);
		assert_int_equal(pages[10 + i].error, -EAGAIN);
		assert_int_equal(pages[20 + i].error, -EAGAIN);
	}
	assert_int_equal(stat_of("late"), 12);
	assert_int_equal(stat_of("running"), 1);
	/* What the late call reads must not reach the buffer, which is not the driver's any
	 * more. */
	memset(fake.mem, 0x22, 4 * ZD_PAGE_SIZE);
	gate(READ, false);
	do_io_ok(dev, ZD_FROM_DEVICE, pages + 30, 1);	/* behind it: there is one worker */
	for (unsigned int i = 0; i < 4 * ZD_PAGE_SIZE; i++)
		assert_int_equal(buf[i], 0x11);
	do_io_ok(dev, ZD_FROM_DEVICE, pages, 4);
	assert_int_equal(buf[0], 0x22);
	finish();
}

/* Broken looks like: a page gets a new content, and then the old one from the late write. */
static void pages_of_a_late_write_are_not_used_before(void **state)
{
	struct zd_device_io io;
	zd_pfn_t got[8];
	unsigned int nr = 0;
	double end = now_s() + PATIENCE_MS / 1000;

	(void)state;
	create(2, 50);
	gate(WRITE, true);
	start_io(dev, &io, ZD_TO_DEVICE, pages + 10, 4);
	wait_io(dev, &io);
	assert_int_equal(pages[10].error, -EAGAIN);
	dev->ops->unalloc_pages(dev, 3, pfns + 9);	/* one of another, two of the write */
	assert_int_equal(dev->ops->alloc_pages(dev, 8, got), 1);
	assert_int_equal(got[0], pfns[9]);
	gate(WRITE, false);
	while (nr < 2) {
		nr += dev->ops->alloc_pages(dev, 8, got + nr);
		assert_true(now_s() < end);
		sched_yield();
	}
	assert_int_equal(got[0] + got[1], pfns[10] + pfns[11]);
	assert_int_equal(dev->ops->alloc_pages(dev, 8, got), 0);
	finish();
}

/* --- removal --- */

static void removal_cancels_writes_and_waits_for_calls(void **state)
{
	struct zd_pagemap_holders holders;
	struct zd_device_io io[3];

	(void)state;
	create(1, 0);
	gate(WRITE, true);
	for (unsigned int i = 0; i < 3; i++)
		start_io(dev, &io[i], ZD_TO_DEVICE, pages + i, 1);
	wait_inside(WRITE, 1);
	assert_int_equal(zd_device_unregister_timeout(dev, 50, &holders), -ETIMEDOUT);
	assert_int_equal(holders.nr_refs, 1);		/* the call */
	assert_int_equal(holders.nr_pages, 0);
	wait_io(dev, &io[1]);
	wait_io(dev, &io[2]);
	assert_int_equal(pages[1].error, -EAGAIN);
	assert_int_equal(pages[2].error, -EAGAIN);
	assert_null(io[0].owner);
	assert_int_equal(fake.closed, 0);
	gate(WRITE, false);
	wait_io(dev, &io[0]);
	assert_int_equal(pages[0].error, 0);
	finish();
	assert_int_equal(fake.nr_calls, 1);
}

/* A call whose batch was answered long ago holds the device as well. */
static void removal_waits_for_a_late_call(void **state)
{
	struct zd_pagemap_holders holders;
	struct zd_device_io io;

	(void)state;
	create(1, 20);
	gate(READ, true);
	start_io(dev, &io, ZD_FROM_DEVICE, pages, 1);
	wait_io(dev, &io);
	assert_int_equal(pages[0].error, -EAGAIN);
	assert_int_equal(zd_device_unregister_timeout(dev, 50, &holders), -ETIMEDOUT);
	assert_int_equal(holders.nr_refs, 1);
	assert_int_equal(fake.closed, 0);
	gate(READ, false);
	finish();
}

/* --- freed pages --- */

static uint64_t discarded(void)
{
	uint64_t nr = 0;

	pthread_mutex_lock(&fake.lock);
	for (unsigned int i = 0; i < fake.nr_calls; i++)
		nr += fake.call[i].kind == DISCARD ? fake.call[i].nr : 0;
	pthread_mutex_unlock(&fake.lock);
	return nr;
}

static bool enough_discarded(void *arg)
{
	return stat_of("discard_pages") >= *(uint64_t *)arg;
}

static void freed_pages_are_discarded_in_batches(void **state)
{
	uint64_t want = PAGES - PAGES / 8 - 128;	/* the pool keeps an eighth back */
	zd_pfn_t got[PAGES];
	unsigned int nr, words = 0;

	(void)state;
	create(2, 0);
	gate(DISCARD, true);
	/* doesn't wait for the discard, which begins meanwhile */
	dev->ops->unalloc_pages(dev, PAGES, pfns);
	dev->ops->reap(dev, false);
	wait_inside(DISCARD, 1);
	nr = dev->ops->alloc_pages(dev, PAGES, got);
	for (unsigned int i = 0; i < nr; i++) {
		uint64_t index = zd_device_page_index(dev, got[i]);

		assert_false(index >= fake.call[0].first &&
			     index < fake.call[0].first + fake.call[0].nr);
	}
	assert_int_equal(nr + fake.call[0].nr, PAGES);
	do_io_ok(dev, ZD_FROM_DEVICE, (struct zd_io_page[]){ { got[0], buf, 0 } }, 1);
	dev->ops->unalloc_pages(dev, nr, got);
	gate(DISCARD, false);
	serve_until(dev, enough_discarded, &want);
	for (unsigned int i = 0; i < fake.nr_calls; i++) {
		if (fake.call[i].kind != DISCARD)
			continue;
		words++;
		assert_int_equal(fake.call[i].first % ZD_POOL_WORD_PAGES, 0);
		assert_int_equal(fake.call[i].nr % ZD_POOL_WORD_PAGES, 0);
	}
	assert_in_range(words, 1, 8);	/* batches, not words */
	assert_true(discarded() >= want);
	finish();
}

static bool all_tried(void *arg)
{
	return discarded() >= *(uint64_t *)arg && stat_of("running") == 0;
}

static void a_discard_that_fails_costs_nothing(void **state)
{
	uint64_t want = PAGES / 2;

	(void)state;
	create(1, 0);
	make_bad(DISCARD, -EOPNOTSUPP, 0, PAGES);
	dev->ops->unalloc_pages(dev, PAGES, pfns);
	serve_until(dev, all_tried, &want);
	assert_int_equal(stat_of("discard_pages"), 0);
	while (dev->ops->reap(dev, false))
		;
	finish();
}

/* --- another size --- */

/* Broken looks like: a driver that says no, and a device that is smaller all the same. */
static void the_driver_may_refuse_another_size(void **state)
{
	(void)state;
	create(2, 0);
	fake.resize_error = -EBUSY;
	assert_int_equal(zd_device_resize(dev, PAGES / 2), -EBUSY);
	dev->ops->unalloc_pages(dev, PAGES, pfns);
	assert_int_equal(dev->ops->alloc_pages(dev, PAGES, pfns), PAGES);
	fake.resize_error = 0;
	assert_int_equal(zd_device_resize(dev, PAGES / 2), 0);
	assert_int_equal(fake.nr_pages, PAGES / 2);
	dev->ops->unalloc_pages(dev, PAGES, pfns);
	assert_int_equal(dev->ops->alloc_pages(dev, PAGES, pfns), PAGES / 2);
	assert_int_equal(zd_device_resize(dev, PAGES), 0);
	assert_int_equal(fake.nr_pages, PAGES);
	finish();
}

/* --- a fork --- */

static int reads_in_child(void)
{
	struct zd_device_io io;

	/* the parent's worker waits for it, and isn't here */
	pthread_mutex_init(&fake.lock, NULL);
	pthread_cond_init(&fake.change, NULL);
	/* nor are the others: the first batch starts some */
	start_io(dev, &io, ZD_FROM_DEVICE, pages, 16);
	wait_io(dev, &io);
	for (unsigned int i = 0; i < 16; i++)
		if (pages[i].error || buf[i * ZD_PAGE_SIZE] != 0x33)
			return 1;
	return 0;
}

static int removes_in_child(void)
{
	return zd_device_unregister(dev) ? 2 : 0;
}

static int reads_and_removes_in_child(void)
{
	int rc = reads_in_child();

	return rc ? rc : removes_in_child();
}

static void check_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		alarm(PATIENCE_MS / 1000);
		_exit(fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void a_child_has_workers_of_its_own(void **state)
{
	struct zd_device_io io;

	(void)state;
	create(2, 0);
	memset(fake.mem, 0x33, 16 * ZD_PAGE_SIZE);
	check_child(removes_in_child);
#ifdef __SANITIZE_THREAD__
	/* TSan lets the child of a program with threads start none. */
	(void)io, (void)reads_and_removes_in_child;
	finish();
	return;
#endif
	check_child(reads_and_removes_in_child);
	gate(WRITE, true);
	start_io(dev, &io, ZD_TO_DEVICE, pages + 100, 1);
	wait_inside(WRITE, 1);		/* in the parent a worker is in the driver */
	check_child(reads_and_removes_in_child);
	gate(WRITE, false);
	wait_io(dev, &io);
	assert_int_equal(pages[100].error, 0);
	gate(DISCARD, true);
	dev->ops->unalloc_pages(dev, PAGES - 16, pfns + 16);
	assert_true(dev->ops->reap(dev, false) == 0);
	wait_inside(DISCARD, 1);	/* no batch is in flight: this is when zonedev run forks */
	check_child(reads_and_removes_in_child);
	gate(DISCARD, false);
	finish();
}

/* --- what is refused --- */

static void bad_attributes(void **state)
{
	struct zd_blocking_ops ops = fake_ops;
	struct zd_blocking_attr good = {
		.size = sizeof(good), .name = "fake", .nr_pages = PAGES, .ops = &ops, .priv = &fake,
	}, attr = good;
	struct zd_device *none;

	(void)state;
	fake.closed = 0;
	assert_int_equal(zd_blocking_device_create(NULL, &none), -EINVAL);
	attr.name = NULL;
	assert_int_equal(zd_blocking_device_create(&attr, &none), -EINVAL);
	attr = good;
	attr.nr_pages = 0;
	assert_int_equal(zd_blocking_device_create(&attr, &none), -EINVAL);
	attr = good;
	attr.threads = ZD_BLOCKING_THREADS + 1;
	assert_int_equal(zd_blocking_device_create(&attr, &none), -EINVAL);
	attr = good;
	attr.flags = ZD_DEVICE_ASYNC;
	assert_int_equal(zd_blocking_device_create(&attr, &none), -EINVAL);
	attr = good;
	ops.version++;
	assert_int_equal(zd_blocking_device_create(&attr, &none), -EINVAL);
	ops = fake_ops;
	ops.size = offsetof(struct zd_blocking_ops, write);
	assert_int_equal(zd_blocking_device_create(&attr, &none), -EINVAL);
	ops = fake_ops;
	ops.write = NULL;
	assert_int_equal(zd_blocking_device_create(&attr, &none), -EINVAL);
	ops = fake_ops;
	for (unsigned int nth = 1; nth <= 4; nth++) {
		zd_alloc_fail_nth(nth);
		assert_int_equal(zd_blocking_device_create(&attr, &none), -ENOMEM);
	}
	zd_alloc_fail_nth(0);
	attr.nr_pages = 1ULL << 36;	/* more than there are numbers for */
	assert_true(zd_blocking_device_create(&attr, &none) < 0);
	assert_int_equal(fake.closed, 0);
}

/* A driver from before ->discard. */
static void short_ops(void **state)
{
	struct zd_blocking_ops ops = fake_ops;
	struct zd_blocking_attr attr = {
		.size = sizeof(attr), .name = "fake", .nr_pages = 128, .ops = &ops, .priv = &fake,
	};
	zd_pfn_t got[128];

	(void)state;
	ops.size = offsetof(struct zd_blocking_ops, discard);
	fake.closed = fake.nr_calls = 0;
	assert_int_equal(zd_blocking_device_create(&attr, &dev), 0);
	assert_int_equal(dev->ops->alloc_pages(dev, 128, got), 128);
	dev->ops->unalloc_pages(dev, 128, got);
	assert_int_equal(dev->ops->reap(dev, false), 0);
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_int_equal(fake.nr_calls + fake.closed, 0);
}

/* --- all at once --- */

#define BATCHES 32
#define PER_BATCH 32

static void *disturb(void *arg)
{
	unsigned int seed = 1;

	while (!__atomic_load_n((bool *)arg, __ATOMIC_RELAXED)) {
		int kind = rand_r(&seed) % 2;
		struct timespec ms = { .tv_nsec = rand_r(&seed) % 4 * 1000000 };

		gate(kind, true);
		nanosleep(&ms, NULL);
		gate(kind, false);
		make_bad(kind, rand_r(&seed) % 3 ? -EIO : -EAGAIN, rand_r(&seed) % PAGES, 16);
		sched_yield();
		make_bad(kind, 0, 0, 0);
	}
	return NULL;
}

/* Broken looks like: a page that was written is read as another, or as an older self; a batch that
 * never ends; a race (TSan). */
static void under_stress(void **state)
{
	unsigned int generation[BATCHES * PER_BATCH] = { 0 }, good = 0;
	unsigned int rounds = SANITIZED ? 60 : 300;
	struct zd_device_io io[BATCHES];
	uint64_t seed = test_seed();
	bool stop = false;
	pthread_t thread;

	(void)state;
	seed = seed << 1 | 1;
	create(3, 3);
	assert_int_equal(pthread_create(&thread, NULL, disturb, &stop), 0);
	for (unsigned int round = 1; round <= rounds; round++) {
		for (unsigned int b = 0; b < BATCHES; b++) {
			struct zd_io_page *p = pages + b * PER_BATCH;
			bool out = prng(&seed) % 2;

			for (unsigned int i = 0; i < PER_BATCH; i++)
				fill(p[i].buf, out ? p[i].pfn * 1024 + round : 0);
			start_io(dev, &io[b], out ? ZD_TO_DEVICE : ZD_FROM_DEVICE, p, PER_BATCH);
		}
		for (unsigned int b = 0; b < BATCHES; b++)
			wait_io(dev, &io[b]);
		for (unsigned int i = 0; i < BATCHES * PER_BATCH; i++) {
			bool out = io[i / PER_BATCH].dir == ZD_TO_DEVICE;

			if (out)	/* a write that failed may have been done, or be on its way */
				generation[i] = pages[i].error ? 0 : round;
			if (out || pages[i].error || !generation[i])
				continue;
			assert_true(filled(pages[i].buf, pages[i].pfn * 1024 + generation[i]));
			good++;
		}
		/* so that late writes have ended: the engine wouldn't use their pages again */
		while (stat_of("running"))
			sched_yield();
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	print_message("%u pages read, %.0f late, %.0f errors\n", good, stat_of("late"),
		      stat_of("errors"));
	assert_true(good > 1000);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours_are_one_call),
		cmocka_unit_test(an_error_is_of_the_page_or_of_the_device),
		cmocka_unit_test(reads_go_first_and_writes_all_the_same),
		cmocka_unit_test(writes_leave_a_worker_for_reads),
		cmocka_unit_test(what_is_late_is_answered),
		cmocka_unit_test(pages_of_a_late_write_are_not_used_before),
		cmocka_unit_test(removal_cancels_writes_and_waits_for_calls),
		cmocka_unit_test(removal_waits_for_a_late_call),
		cmocka_unit_test(freed_pages_are_discarded_in_batches),
		cmocka_unit_test(a_discard_that_fails_costs_nothing),
		cmocka_unit_test(the_driver_may_refuse_another_size),
		cmocka_unit_test(a_child_has_workers_of_its_own),
		cmocka_unit_test(bad_attributes),
		cmocka_unit_test(short_ops),
		cmocka_unit_test(under_stress),
	};

	zd_set_log(quiet, NULL);
	fake.mem = map_pages(PAGES);
	buf = map_pages(PAGES);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
