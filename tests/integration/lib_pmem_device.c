/* SPDX-License-Identifier: MIT */
/*
 * Memory of a program on persistent memory: pages by address, pages that fail, and the
 * removal of the device under load.
 */
#include "tests/integration/lib_test.h"

#include <zonedev/pmem_device.h>

#define N	600

static struct zd_mm *mm;

static struct zd_device *pmem_device(const char *path, size_t pages)
{
	struct zd_device *dev;
	char err[256];

	if (zd_pmem_device_create(path, pages * PAGE, 0, &dev, err, sizeof(err))) {
		fprintf(stderr, "%s: %s\n", path, err);
		_exit(1);
	}
	return dev;
}

static void poison(struct zd_device *dev, uint64_t page, uint64_t nr)
{
	CHECK_EQ(zd_pmem_device_inject_poison(dev, page, nr), 0);
}

static void end(struct zd_device *dev, char *mem)
{
	CHECK(!munmap(mem, N * PAGE));
	WAIT_FOR(!zd_device_live_pages(dev));
	CHECK_EQ(zd_device_unregister(dev), 0);
}

/* Where @mem's pages are: their indexes in the device. */
static void find_pages(struct zd_device *dev, void *mem, uint64_t *index)
{
	zd_pfn_t pfns[N];

	CHECK_EQ(zd_migrate_device_pfns(mm, mem, N * PAGE, pfns, N), 0);
	for (int i = 0; i < N; i++)
		index[i] = zd_device_page_index(dev, pfns[i]);
}

static void by_address(void)
{
	struct zd_device *dev = pmem_device("memfd:lib", N);
	char *mem = evicted(mm, N, 1, dev);
	uint64_t index[N];

	find_pages(dev, mem, index);
	for (int i = 0; i < N; i++) {
		char *at = dev->ops->direct_access(dev, dev->pgmap.pfn + index[i]);

		CHECK(at);
		CHECK(((uint64_t *)at)[7] == word(1, i, 7));
	}
	CHECK_FILLED(mem, N, 1);
	evict(mm, mem, N, dev);
	CHECK_FILLED(mem, N, 1);
	end(dev, mem);
}

/* A page of the medium that can't be read is lost, and no other. */
static void a_broken_page_is_read(void)
{
	struct zd_device *dev = pmem_device("memfd:lib", N);
	char *mem = evicted(mm, N, 2, dev);
	struct zd_mm_stats before = stats(mm), after;
	struct zd_migrate_result r;
	uint64_t index[N];

	find_pages(dev, mem, index);
	poison(dev, index[100], 1);
	poison(dev, index[300], 1);
	/* by a call nothing is lost */
	CHECK_EQ(zd_migrate_to_ram(mm, mem, N * PAGE, &r), -EIO);
	CHECK_EQ(r.moved, N - 2);
	CHECK_EQ(bad_page(mem, 0, 100, 2), 100);
	CHECK(raises_sigbus(mem + 100 * PAGE + 8));
	CHECK_EQ(bad_page(mem, 101, 300, 2), 300);
	CHECK(raises_sigbus(mem + 300 * PAGE));
	CHECK_EQ(bad_page(mem, 301, N, 2), N);
	after = stats(mm);
	CHECK_EQ(after.pages_poisoned - before.pages_poisoned, 2);
	end(dev, mem);
}

/* A store to the medium fails: the program's page is as it was, and goes elsewhere. */
static void a_broken_page_is_written(void)
{
	struct zd_device *dev = pmem_device("memfd:lib", N + 64);
	struct zd_mm_stats before, after;
	uint64_t index[N];
	char *mem = map(N);

	fill(mem, N, 3);
	CHECK_EQ(zd_mm_register(mm, mem, N * PAGE), 0);
	poison(dev, 0, 1);
	poison(dev, 200, 30);
	before = stats(mm);
	evict(mm, mem, N, dev);
	find_pages(dev, mem, index);
	for (int i = 0; i < N; i++)
		CHECK(index[i] && (index[i] < 200 || index[i] >= 230));
	CHECK_FILLED(mem, N, 3);
	after = stats(mm);
	CHECK_EQ(after.pages_poisoned, before.pages_poisoned);
	end(dev, mem);
}

static char path[64];

/* Another process cuts the file: what was in the part that is gone is lost, also where the file
 * reads as zeros. */
static void the_file_is_cut(void)
{
	struct zd_device *dev;
	uint64_t index[N];
	char *mem;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/zd-lib-pmem-%d", getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	CHECK(!ftruncate(fd, N * PAGE));
	dev = pmem_device(path, 0);
	mem = evicted(mm, N, 4, dev);
	find_pages(dev, mem, index);
	CHECK(!ftruncate(fd, 400 * PAGE + 8));
	CHECK_EQ(unlink(path), 0);
	for (int i = 0; i < N; i++) {
		if (index[i] < 400)
			CHECK_EQ(bad_page(mem, i, i + 1, 4), i + 1);
		else
			CHECK(raises_sigbus(mem + i * PAGE));
	}
	end(dev, mem);
	close(fd);
}

/* --- removal --- */

static char *used;
static bool stop;

static void *use(void *arg)
{
	size_t *bad = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		*bad += bad_page(used, 0, N, 5) != N;
	return NULL;
}

/* A page is held and another pinned: the removal brings the others home, and says for which
 * page it waits. */
static void removed_under_load(void)
{
	struct zd_device *dev = pmem_device("memfd:lib", N);
	struct zd_pagemap_holders holders = { 0 };
	struct zd_page *pinned;
	zd_pfn_t pfns[N];
	double until = now() + PATIENCE;
	pthread_t thread;
	size_t bad = 0;

	used = evicted(mm, N, 5, dev);
	CHECK_EQ(zd_migrate_device_pfns(mm, used, N * PAGE, pfns, N), 0);
	zd_get_page(zd_pfn_to_page(pfns[7]));
	stop = false;
	CHECK(!pthread_create(&thread, NULL, use, &bad));
	CHECK_EQ(zd_pin_user_pages_fast(mm, used + 50 * PAGE, 1, ZD_FOLL_WRITE, &pinned), 1);
	/* until the others are home */
	do
		CHECK_EQ(zd_device_unregister_timeout(dev, 50, &holders), -ETIMEDOUT);
	while (holders.nr_pages > 1 && now() < until);
	CHECK_EQ(holders.nr_pages, 1);
	CHECK_EQ(holders.pfns[0], pfns[7]);
	zd_put_page(zd_pfn_to_page(pfns[7]));
	CHECK_EQ(zd_device_unregister_timeout(dev, 30000, NULL), 0);
	CHECK_EQ(resident(used, N), N);
	zd_unpin_user_page(pinned);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	CHECK(!pthread_join(thread, NULL));
	CHECK_EQ(bad, 0);
	CHECK(!munmap(used, N * PAGE));
}

/* Pages leave a device that is removed for this one, and some of their places are broken. */
static void moved_to_broken_pages(void)
{
	struct zd_device *ram = ram_device(N), *dev = pmem_device("memfd:lib", N + 64);
	char *mem = evicted(mm, N, 6, ram), *first = evicted(mm, 1, 7, dev);
	struct zd_mm_stats before = stats(mm);
	uint64_t live;

	poison(dev, 20, 30);
	CHECK_EQ(zd_device_unregister(ram), 0);
	live = zd_device_live_pages(dev);
	CHECK(live > N / 2);
	CHECK_FILLED(mem, N, 6);
	CHECK_FILLED(first, 1, 7);
	CHECK_EQ(stats(mm).pages_poisoned, before.pages_poisoned);
	CHECK(!munmap(first, PAGE));
	end(dev, mem);
}

int main(void)
{
	catch_sigbus();
	zd_set_log(quiet, NULL);
	mm = open_mm();
	by_address();
	a_broken_page_is_read();
	a_broken_page_is_written();
	the_file_is_cut();
	moved_to_broken_pages();
	for (int i = 0; i < 20; i++)
		removed_under_load();
	CHECK_EQ(zd_mm_close(mm), 0);
	return 0;
}
