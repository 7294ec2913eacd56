/* SPDX-License-Identifier: MIT */
/*
 * Data is copied directly between peer memory and devices that can; copies by way of RAM
 * are counted; a page that fails fails alone, and its target stays as it was.
 */
#include "tests/integration/p2p_test.h"

#include "drivers/example/example.c"	/* a driver without p2p_distance */

#define N	150	/* more than two batches */

static struct zd_page *theirs[N], *ours[N], *more[N];

/* @nr live pages of @dev. */
static void take_pages(struct zd_device *dev, struct zd_page **pages, unsigned int nr)
{
	zd_pfn_t pfns[N];

	CHECK_EQ(dev->ops->alloc_pages(dev, nr, pfns), nr);
	for (unsigned int i = 0; i < nr; i++) {
		pages[i] = zd_pfn_to_page(pfns[i]);
		CHECK_EQ(zd_page_init(pages[i]), 0);
		CHECK(zd_page_device(pages[i]) == dev);
	}
}

static void put_pages(struct zd_page **pages, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		zd_put_page(pages[i]);
}

static void peer_pages(struct zd_p2pdma *p, char *mem, struct zd_page **pages)
{
	for (size_t i = 0; i < N; i++) {
		pages[i] = zd_p2pmem_page(p, mem + i * PAGE);
		CHECK(!zd_page_device(pages[i]));
	}
}

static struct zd_p2pdma_result copy(struct zd_page **dst, struct zd_page **src, int expect)
{
	struct zd_p2pdma_result r = { 0 };

	CHECK_EQ(zd_p2pdma_copy(dst, src, N, &r), expect);
	CHECK_EQ(r.direct + r.bounced + r.failed, N);
	return r;
}

static struct zd_p2pdma_stats totals(void)
{
	struct zd_p2pdma_stats s;

	CHECK_EQ(zd_p2pdma_get_stats(&s), 0);
	return s;
}

/* Data goes out to @dev and back to other pages unchanged; directly or not as @distance says. */
static void there_and_back(struct zd_device *dev, int distance)
{
	int fd = new_memfd(2 * N * PAGE);
	struct zd_p2pdma *p = provider_of(fd, 2 * N);
	char *a = alloc_p2p(p, N), *b = alloc_p2p(p, N);
	struct zd_p2pdma_stats before = totals();
	struct zd_p2pdma_result r;

	CHECK_EQ(zd_p2pdma_distance(p, &dev, 1, true), distance);
	take_pages(dev, theirs, N);
	peer_pages(p, a, ours);
	fill(a, N, 1);
	r = copy(theirs, ours, 0);
	CHECK_EQ(r.direct, distance < 0 ? 0 : N);
	memset(a, 0, N * PAGE);
	/* page by page in another order: no runs */
	peer_pages(p, b, ours);
	for (int i = 0; i < N / 2; i++) {
		struct zd_page *page = ours[i], *their = theirs[i];

		ours[i] = ours[N - 1 - i];
		ours[N - 1 - i] = page;
		theirs[i] = theirs[N - 1 - i];
		theirs[N - 1 - i] = their;
	}
	r = copy(ours, theirs, 0);
	CHECK_EQ(r.bounced, distance < 0 ? N : 0);
	CHECK_FILLED(b, N, 1);
	CHECK_EQ(totals().direct - before.direct, distance < 0 ? 0 : 2 * N * PAGE);
	CHECK_EQ(totals().bounced - before.bounced, distance < 0 ? 2 * N * PAGE : 0);

	put_pages(theirs, N);
	zd_free_p2pmem(p, a, N * PAGE);
	zd_free_p2pmem(p, b, N * PAGE);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	close(fd);
}

static void each_kind(void)
{
	struct zd_device *ram = ram_device(N), *file = file_device(N), *example, *all[2];
	bool direct = strstr(zd_file_device_mode(file), "O_DIRECT") != NULL;
	struct zd_p2pdma_stats before;
	int fd = new_memfd(PAGE);
	struct zd_p2pdma *p;

	printf("file device: %s\n", zd_file_device_mode(file));
	CHECK_EQ(example_device_create(N, &example), 0);
	there_and_back(ram, 0);
	set_latency(ram, 1);	/* by ->submit and ->reap */
	there_and_back(ram, 0);
	there_and_back(file, direct ? 1 : -1);
	there_and_back(example, -1);

	p = provider_of(fd, 1);
	all[0] = ram;
	all[1] = example;
	CHECK_EQ(zd_p2pdma_distance(p, all, 2, false), -1);
	CHECK_EQ(zd_p2pdma_distance(p, all, 0, false), -1);
	all[1] = file;
	CHECK_EQ(zd_p2pdma_distance(p, all, 2, false), direct ? 1 : -1);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	close(fd);

	/* from one device to the other: only by way of RAM */
	take_pages(ram, theirs, N);
	take_pages(example, more, N);
	fd = new_memfd(N * PAGE);
	p = provider_of(fd, N);
	peer_pages(p, alloc_p2p(p, N), ours);
	fill(zd_page_address(ours[0]), N, 4);
	copy(theirs, ours, 0);
	before = totals();
	CHECK_EQ(copy(more, theirs, 0).bounced, N);
	CHECK_EQ(totals().bounced - before.bounced, N * PAGE);
	CHECK_EQ(totals().direct, before.direct);
	memset(zd_page_address(ours[0]), 0, N * PAGE);
	copy(ours, more, 0);
	CHECK_FILLED(zd_page_address(ours[0]), N, 4);
	put_pages(theirs, N);
	put_pages(more, N);
	zd_free_p2pmem(p, zd_page_address(ours[0]), N * PAGE);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	close(fd);
	CHECK_EQ(zd_device_unregister(ram), 0);
	CHECK_EQ(zd_device_unregister(file), 0);
	CHECK_EQ(zd_device_unregister(example), 0);
}

/* From region to region, and pages of the program's own. */
static void memory_to_memory(void)
{
	int fd = new_memfd(N * PAGE), fd2 = new_memfd(N * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_p2pdma *p = provider_of(fd2, N);
	struct zd_device *ram = ram_device(N);
	struct zd_mm *mm = open_mm();
	char *own = map(N), *mem = alloc_p2p(p, N);
	zd_pfn_t pfn;

	CHECK_EQ(zd_dax_direct_access(dax, 0, N, NULL, &pfn), N);
	for (int i = 0; i < N; i++)
		theirs[i] = zd_pfn_to_page(pfn + i);
	peer_pages(p, mem, ours);
	fill(mem, N, 5);
	CHECK_EQ(copy(theirs, ours, 0).direct, N);
	CHECK(!memcmp(zd_page_address(theirs[N - 1]), mem + (N - 1) * PAGE, PAGE));

	CHECK_EQ(zd_mm_register(mm, own, N * PAGE), 0);
	CHECK_EQ(zd_pin_user_pages_fast(mm, own, N, ZD_FOLL_WRITE, more), N);
	CHECK_EQ(copy(more, theirs, 0).direct, N);
	CHECK_FILLED(own, N, 5);
	put_pages(theirs, N);

	/* a device never gets the program's RAM itself */
	take_pages(ram, theirs, N);
	CHECK_EQ(copy(theirs, more, 0).bounced, N);
	zd_unpin_user_pages(more, N);
	CHECK_EQ(zd_mm_close(mm), 0);
	memset(mem, 0, N * PAGE);
	CHECK_EQ(copy(ours, theirs, 0).direct, N);
	CHECK_FILLED(mem, N, 5);
	put_pages(theirs, N);
	zd_free_p2pmem(p, mem, N * PAGE);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	CHECK_EQ(zd_device_unregister(ram), 0);
	close(fd);
	close(fd2);
	munmap(own, N * PAGE);
}

/* --- failures --- */

/* The first @good pages of @mem are @tag's, the others as before. */
static void check_rest(const char *mem, size_t good, uint64_t tag, const char *before)
{
	CHECK_EQ(bad_page(mem, 0, good, tag), good);
	CHECK(!memcmp(mem + good * PAGE, before + good * PAGE, (N - good) * PAGE));
}

/* The same by way of RAM: pages that failed leave their targets as they were. */
static void program_memory(uint64_t tag)
{
	char *own = map(N), *before = malloc(N * PAGE);
	struct zd_mm *mm = open_mm();
	struct zd_p2pdma_result r;

	fill(own, N, 12);
	memcpy(before, own, N * PAGE);
	CHECK_EQ(zd_mm_register(mm, own, N * PAGE), 0);
	CHECK_EQ(zd_pin_user_pages_fast(mm, own, N, ZD_FOLL_WRITE, more), N);
	r = copy(more, theirs, -EIO);
	CHECK_EQ(r.bounced, 100);
	CHECK_EQ(r.failed, N - 100);
	check_rest(own, 100, tag, before);
	zd_unpin_user_pages(more, N);
	CHECK_EQ(zd_mm_close(mm), 0);
	munmap(own, N * PAGE);
	free(before);
}

static void the_device_fails(struct zd_device *ram)
{
	struct zd_ram_faults faults = { .read_error = -EIO, .first = 100, .nr = N };
	int fd = new_memfd(N * PAGE);
	struct zd_p2pdma *p = provider_of(fd, N);
	char *mem = alloc_p2p(p, N), *before = malloc(N * PAGE);
	struct zd_p2pdma_result r;

	take_pages(ram, theirs, N);
	peer_pages(p, mem, ours);
	fill(mem, N, 6);
	copy(theirs, ours, 0);
	fill(mem, N, 7);
	memcpy(before, mem, N * PAGE);
	CHECK_EQ(zd_ram_device_inject(ram, &faults), 0);
	r = copy(ours, theirs, -EIO);
	CHECK_EQ(r.direct, 100);
	CHECK_EQ(r.failed, N - 100);
	check_rest(mem, 100, 6, before);
	program_memory(6);
	faults.read_error = 0;
	CHECK_EQ(zd_ram_device_inject(ram, &faults), 0);

	/* the memory fails: the file behind it has become shorter */
	CHECK(!ftruncate(fd, 70 * PAGE));
	r = copy(ours, theirs, -EIO);
	CHECK_EQ(r.direct, 70);
	CHECK_EQ(r.failed, N - 70);
	CHECK_EQ(bad_page(mem, 0, 70, 6), 70);
	r = copy(theirs, ours, -EIO);
	CHECK_EQ(r.failed, N - 70);
	put_pages(theirs, N);
	zd_free_p2pmem(p, mem, N * PAGE);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	close(fd);
	free(before);
}

/* The same by way of RAM, and by io_uring. */
static void memory_fails(struct zd_device *dev)
{
	int fd = new_memfd(N * PAGE);
	struct zd_p2pdma *p = provider_of(fd, N);
	char *mem = alloc_p2p(p, N);
	struct zd_p2pdma_result r;
	int rc;

	take_pages(dev, theirs, N);
	peer_pages(p, mem, ours);
	fill(mem, N, 8);
	copy(theirs, ours, 0);
	memset(mem, 0, N * PAGE);
	CHECK(!ftruncate(fd, 70 * PAGE));
	rc = zd_p2pdma_copy(ours, theirs, N, &r);
	CHECK(rc == -EIO || rc == -EFAULT);
	CHECK_EQ(r.failed, N - 70);
	CHECK_EQ(bad_page(mem, 0, 70, 8), 70);
	rc = zd_p2pdma_copy(theirs, ours, N, &r);
	CHECK(rc == -EIO || rc == -EFAULT);
	CHECK_EQ(r.failed, N - 70);
	put_pages(theirs, N);
	zd_free_p2pmem(p, mem, N * PAGE);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	close(fd);
}

static void failures(void)
{
	struct zd_device *ram = ram_device(N), *file = file_device(N), *example;
	struct zd_pagemap raw = { .type = ZD_MEMORY_GENERIC, .nr_pages = 1 };
	struct zd_p2pdma_result r;
	struct zd_page *page;

	CHECK_EQ(example_device_create(N, &example), 0);
	the_device_fails(ram);
	memory_fails(file);
	memory_fails(example);

	/* a page without an address */
	CHECK_EQ(zd_memremap_pages(&raw), 0);
	page = zd_pfn_to_page(raw.pfn);
	CHECK_EQ(zd_page_init(page), 0);
	take_pages(ram, theirs, 1);
	CHECK_EQ(zd_p2pdma_copy(&page, theirs, 1, &r), -EINVAL);
	CHECK_EQ(r.failed, 1);
	CHECK_EQ(zd_p2pdma_copy(&page, &page, 1, &r), -EINVAL);
	zd_put_page(page);
	put_pages(theirs, 1);
	CHECK_EQ(zd_memunmap_pages(&raw), 0);
	CHECK_EQ(zd_device_unregister(ram), 0);
	CHECK_EQ(zd_device_unregister(file), 0);
	CHECK_EQ(zd_device_unregister(example), 0);
}

/* --- what the driver is given --- */

static const void *given[N];
static unsigned int nr_given;

static void note_submit(struct zd_device *dev, struct zd_device_io *io)
{
	for (unsigned int i = 0; i < io->nr; i++)
		given[nr_given++] = io->pages[i].buf;
	example_submit(dev, io);
}

static int is_near(struct zd_device *dev, const void *addr, size_t len)
{
	(void)dev;
	(void)addr;
	(void)len;
	return 3;
}

/* The peer's memory is the buffer; for a driver that can't use it, other memory. */
static void buffers(void)
{
	struct zd_device_ops ops = example_ops;
	struct zd_device *dev;
	int fd = new_memfd(N * PAGE);
	struct zd_p2pdma *p = provider_of(fd, N);
	char *mem = alloc_p2p(p, N);
	struct zd_p2pdma_sg sg[2];

	CHECK_EQ(example_device_create(N, &dev), 0);
	peer_pages(p, mem, ours);
	sg[0] = (struct zd_p2pdma_sg){ .page = ours[0], .nr_pages = 100 };
	sg[1] = (struct zd_p2pdma_sg){ .page = ours[120], .nr_pages = 5 };
	fill(mem, N, 20);
	CHECK_EQ(zd_p2pdma_map_sg(dev, sg, 2, ZD_TO_DEVICE), 0);
	CHECK(sg[0].bounced && sg[0].addr != mem && !memcmp(sg[0].addr, mem, 100 * PAGE));
	CHECK(!memcmp(sg[1].addr, mem + 120 * PAGE, 5 * PAGE));
	memset(sg[0].addr, 0, 100 * PAGE);
	CHECK_EQ(zd_p2pdma_unmap_sg(dev, sg, 2, ZD_TO_DEVICE), 0);
	CHECK_FILLED(mem, N, 20);
	CHECK_EQ(zd_p2pdma_map_sg(dev, sg, 2, ZD_FROM_DEVICE), 0);
	fill(sg[0].addr, 100, 21);
	CHECK_FILLED(mem, N, 20);
	CHECK_EQ(zd_p2pdma_unmap_sg(dev, sg, 2, ZD_FROM_DEVICE), 0);
	CHECK_FILLED(mem, 100, 21);
	sg[1].page = zd_pfn_to_page(dev->pgmap.pfn);
	CHECK_EQ(zd_p2pdma_map_sg(dev, sg, 2, ZD_TO_DEVICE), -EINVAL);

	/* now the driver can */
	ops.submit = note_submit;
	ops.p2p_distance = is_near;
	dev->ops = &ops;
	CHECK_EQ(zd_p2pdma_distance(p, &dev, 1, false), 3);
	sg[1].page = ours[120];
	CHECK_EQ(zd_p2pdma_map_sg(dev, sg, 2, ZD_FROM_DEVICE), 0);
	CHECK(!sg[0].bounced && sg[0].addr == mem && sg[1].addr == mem + 120 * PAGE);
	CHECK_EQ(zd_p2pdma_unmap_sg(dev, sg, 2, ZD_FROM_DEVICE), 0);
	take_pages(dev, theirs, N);
	copy(theirs, ours, 0);
	CHECK_EQ(nr_given, N);
	for (int i = 0; i < N; i++)
		CHECK(given[i] == mem + i * PAGE);
	put_pages(theirs, N);
	dev->ops = &example_ops;
	zd_free_p2pmem(p, mem, N * PAGE);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	CHECK_EQ(zd_device_unregister(dev), 0);
	close(fd);
}

/* Pages of a managed range whose descriptors follow each other, but whose addresses don't: each
 * is copied to its own place. */
static void far_apart(void)
{
	struct zd_mm *mm = open_mm();
	char *own = map(4);
	struct zd_p2pdma_sg sg = { .nr_pages = 2 };
	struct zd_page *pages[2];
	struct zd_device *dev;

	CHECK_EQ(example_device_create(N, &dev), 0);
	CHECK_EQ(zd_mm_register(mm, own, 4 * PAGE), 0);
	fill(own, 4, 30);
	CHECK_EQ(zd_pin_user_pages_fast(mm, own, 1, ZD_FOLL_WRITE, &pages[0]), 1);
	CHECK_EQ(zd_pin_user_pages_fast(mm, own + 2 * PAGE, 1, ZD_FOLL_WRITE, &pages[1]), 1);
	/* or the test shows nothing */
	CHECK(pages[1] == pages[0] + 1 || pages[0] == pages[1] + 1);
	sg.page = pages[0] < pages[1] ? pages[0] : pages[1];
	CHECK_EQ(zd_p2pdma_map_sg(dev, &sg, 1, ZD_TO_DEVICE), 0);
	CHECK(!memcmp(sg.addr, zd_page_address(sg.page), PAGE));
	CHECK(!memcmp((char *)sg.addr + PAGE, zd_page_address(sg.page + 1), PAGE));
	CHECK_EQ(zd_p2pdma_unmap_sg(dev, &sg, 1, ZD_TO_DEVICE), 0);
	CHECK_EQ(zd_p2pdma_map_sg(dev, &sg, 1, ZD_FROM_DEVICE), 0);
	memset(sg.addr, 'z', 2 * PAGE);
	CHECK_EQ(zd_p2pdma_unmap_sg(dev, &sg, 1, ZD_FROM_DEVICE), 0);
	CHECK_EQ(own[5], 'z');
	CHECK_EQ(own[2 * PAGE + 5], 'z');
	CHECK_EQ(bad_page(own, 1, 2, 30), 2UL);
	zd_unpin_user_pages(pages, 2);
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_device_unregister(dev), 0);
	munmap(own, 4 * PAGE);
}

/* --- a device that a zd_mm uses --- */

static bool stop;
static char *evicted_mem;
static size_t bad;

static void *touch(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
		bad += bad_page(evicted_mem, 0, N, 9) != N;
	return NULL;
}

static void beside_migration(bool latency)
{
	struct zd_device *dev = ram_device(4 * N);
	struct zd_mm *mm = open_mm();
	int fd = new_memfd(N * PAGE);
	struct zd_p2pdma *p = provider_of(fd, N);
	char *mem = alloc_p2p(p, N), *fixed;
	zd_pfn_t pfns[N];
	pthread_t thread;

	if (latency)
		set_latency(dev, 50);
	peer_pages(p, mem, ours);
	evicted_mem = evicted(mm, N, 9, dev);
	fixed = evicted(mm, N, 11, dev);
	CHECK_EQ(zd_migrate_device_pfns(mm, fixed, N * PAGE, pfns, N), 0);
	for (int i = 0; i < N; i++) {
		theirs[i] = zd_pfn_to_page(pfns[i]);
		CHECK(zd_try_get_page(theirs[i]));
	}
	stop = false;
	CHECK(!pthread_create(&thread, NULL, touch, NULL));
	for (int round = 0; round < 20; round++) {
		struct zd_migrate_result r;

		memset(mem, 0, N * PAGE);
		CHECK_EQ(copy(ours, theirs, 0).direct, N);
		CHECK_FILLED(mem, N, 11);
		CHECK_EQ(zd_migrate_to_device(mm, evicted_mem, N * PAGE, dev, &r), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	CHECK(!pthread_join(thread, NULL));
	CHECK_EQ(bad, 0);
	/* without a server the thread that copies drives the device */
	CHECK_EQ(zd_mm_close(mm), 0);
	memset(mem, 0, N * PAGE);
	CHECK_EQ(copy(ours, theirs, 0).direct, N);
	CHECK_FILLED(mem, N, 11);
	put_pages(theirs, N);
	zd_free_p2pmem(p, mem, N * PAGE);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	CHECK_EQ(zd_device_unregister(dev), 0);
	close(fd);
	munmap(evicted_mem, N * PAGE);
	munmap(fixed, N * PAGE);
}

int main(void)
{
	each_kind();
	memory_to_memory();
	failures();
	buffers();
	far_apart();
	beside_migration(false);
	beside_migration(true);
	return 0;
}
