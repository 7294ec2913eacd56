/* SPDX-License-Identifier: MIT */
/*
 * Peer-to-peer memory is allocated once, and free again with the last put, by whichever
 * thread; removal waits for exactly the pages that are held.
 */
#include "pages/pagemap.h"
#include "tests/integration/p2p_test.h"

#define N	256

static void the_last_put_frees(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_p2pdma *p = provider_of(fd, N);
	struct zd_mm *mm = open_mm();
	struct zd_page *page, *pinned[4];
	struct zd_dax_mapping *map, *map2;
	char *mem = alloc_p2p(p, 10), *seen;

	CHECK_EQ(zd_p2pdma_pagemap(p)->type, ZD_MEMORY_P2PDMA);
	CHECK_EQ(available(p), N - 10);
	fill(mem, 10, 1);
	page = zd_p2pmem_page(p, mem + 3 * PAGE + 5);
	CHECK(zd_page_address(page) == mem + 3 * PAGE);
	CHECK_EQ(zd_page_count(page), 1);
	CHECK(!zd_p2pmem_page(p, mem - N * PAGE));
	CHECK(!zd_p2pmem_page(p, &page));

	/* the program has the memory mapped, twice; the client puts its pages */
	CHECK_EQ(zd_p2pdma_mmap(p, mm, mem, 10 * PAGE, PROT_READ | PROT_WRITE, 0, &map), 0);
	CHECK_EQ(zd_p2pdma_mmap(p, NULL, mem + 2 * PAGE, 2 * PAGE, PROT_READ, 0, &map2), 0);
	CHECK_EQ(zd_page_count(page), 3);
	zd_free_p2pmem(p, mem, 10 * PAGE);
	CHECK_EQ(available(p), N - 10);
	seen = zd_dax_mapping_addr(map);
	CHECK_FILLED(seen, 10, 1);
	CHECK_EQ(zd_pin_user_pages_fast(mm, seen + 2 * PAGE, 4, ZD_FOLL_WRITE, pinned), 4);
	CHECK(pinned[1] == page);

	/* unmapped: pages that nobody else holds are free again */
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(available(p), N - 4);
	zd_unpin_user_pages(pinned, 4);
	CHECK_EQ(available(p), N - 2);
	CHECK_EQ(zd_dax_munmap(map2), 0);
	CHECK_EQ(available(p), N);
	CHECK_EQ(zd_pagemap_live_pages(zd_p2pdma_pagemap(p)), 0);
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	close(fd);
}

static void all_of_it(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_p2pdma *p = provider_of(fd, N);
	struct zd_dax_mapping *map;
	char *a, *b, *c;
	void *none;

	a = alloc_p2p(p, 100);
	b = alloc_p2p(p, 56);
	CHECK_EQ(zd_alloc_p2pmem(p, 99 * PAGE + 1, &none), 0);	/* rounded up */
	c = none;
	CHECK_EQ(zd_alloc_p2pmem(p, 1, &none), -ENOMEM);
	CHECK(a + 100 * PAGE == b && b + 56 * PAGE == c);
	/* room, but not in one piece */
	zd_free_p2pmem(p, a, 30 * PAGE);
	zd_free_p2pmem(p, c, 30 * PAGE);
	CHECK_EQ(available(p), 60);
	CHECK_EQ(zd_alloc_p2pmem(p, 31 * PAGE, &none), -ENOMEM);
	CHECK(alloc_p2p(p, 30) == a || alloc_p2p(p, 30) == a);
	zd_free_p2pmem(p, a, 30 * PAGE);

	CHECK_EQ(zd_alloc_p2pmem(p, 0, &none), -EINVAL);
	CHECK_EQ(zd_p2pdma_mmap(p, NULL, a, PAGE, PROT_READ, 0, &map), -EINVAL);	/* free */
	CHECK_EQ(zd_p2pdma_mmap(p, NULL, b + 1, PAGE, PROT_READ, 0, &map), -EINVAL);
	CHECK_EQ(zd_p2pdma_mmap(p, NULL, b, N * PAGE, PROT_READ, 0, &map), -EINVAL);
	CHECK_EQ(zd_p2pdma_mmap(p, NULL, &none, PAGE, PROT_READ, 0, &map), -EINVAL);
	zd_free_p2pmem(p, a + 30 * PAGE, 70 * PAGE);
	zd_free_p2pmem(p, b, 56 * PAGE);
	zd_free_p2pmem(p, c + 30 * PAGE, 70 * PAGE);
	if (available(p) != N)	/* c has 30 pages left */
		zd_free_p2pmem(p, c, 30 * PAGE);
	CHECK_EQ(available(p), N);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	close(fd);
}

static void not_published(void)
{
	struct zd_p2pdma_resource res = { .size = sizeof(res), .length = PAGE };
	int fd = new_memfd(N * PAGE), ro = open("/proc/self/exe", O_RDONLY);
	struct zd_p2pdma *p;

	res.fd = -1;
	CHECK_EQ(zd_p2pdma_add_resource(&res, &p), -EBADF);
	res.fd = ro;
	CHECK_EQ(zd_p2pdma_add_resource(&res, &p), -EACCES);
	res.fd = fd;
	res.length = 100;
	CHECK_EQ(zd_p2pdma_add_resource(&res, &p), -EINVAL);
	res.length = 0;
	CHECK_EQ(zd_p2pdma_add_resource(&res, &p), -EINVAL);
	res.length = PAGE;
	res.offset = 1;
	CHECK_EQ(zd_p2pdma_add_resource(&res, &p), -EINVAL);
	res.offset = -PAGE;
	CHECK_EQ(zd_p2pdma_add_resource(&res, &p), -EINVAL);
	res.offset = 0;
	res.size = 8;
	CHECK_EQ(zd_p2pdma_add_resource(&res, &p), -EINVAL);
	CHECK_EQ(zd_p2pdma_add_resource(NULL, &p), -EINVAL);
	CHECK_EQ(zd_p2pdma_remove(NULL), -EINVAL);
	close(ro);
	close(fd);
}

/* A provider of a part of a region: the region's memory; and the region's removal waits for it. */
static void part_of_a_region(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_pagemap_holders who = { 0 };
	struct zd_p2pdma *p;
	struct zd_dax_mapping *map;
	uint64_t w;
	char *mem;

	CHECK_EQ(zd_p2pdma_add_dax(dax, (N - 2) * PAGE, 3 * PAGE, &p), -EINVAL);
	CHECK_EQ(zd_p2pdma_add_dax(dax, 8 * PAGE, 16 * PAGE, &p), 0);
	mem = alloc_p2p(p, 16);
	fill(mem, 16, 2);
	CHECK_EQ(pread(fd, &w, 8, 9 * PAGE), 8);
	CHECK_EQ(w, word(2, 1, 0));
	CHECK_EQ(zd_p2pdma_mmap(p, NULL, mem + PAGE, PAGE, PROT_READ, 0, &map), 0);
	CHECK_EQ(*(uint64_t *)zd_dax_mapping_addr(map), w);

	CHECK_EQ(zd_dax_close_timeout(dax, 10, &who), -ETIMEDOUT);
	CHECK_EQ(who.nr_pages, 0);
	CHECK_EQ(who.nr_refs, 1);
	CHECK_FILLED(mem, 16, 2);
	zd_free_p2pmem(p, mem, 16 * PAGE);
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
}

/* --- removal --- */

static char steps[256];
static const struct zd_pagemap *removing;

static void record(const void *what, const char *step)
{
	if (what == removing)
		strcat(strcat(steps, *steps ? " " : ""), step);
}

static void released(void *data)
{
	strcat(steps, " release");
	++*(int *)data;
}

static void removal(void)
{
	int fd = new_memfd(N * PAGE), times = 0;
	struct zd_p2pdma_resource res = {
		.size = sizeof(res), .fd = fd, .length = N * PAGE, .release = released, .data = &times,
	};
	struct zd_pagemap_holders who = { 0 };
	struct zd_mm *mm = open_mm();
	struct zd_page *pinned;
	struct zd_devm devm;
	struct zd_dax_mapping *map;
	struct zd_p2pdma *p;
	char *mem;
	void *none;

	CHECK_EQ(zd_p2pdma_add_resource(&res, &p), 0);
	removing = zd_p2pdma_pagemap(p);
	mem = alloc_p2p(p, 20);
	fill(mem, 20, 3);
	CHECK_EQ(zd_p2pdma_mmap(p, mm, mem, 20 * PAGE, PROT_READ, 0, &map), 0);
	CHECK_EQ(zd_pin_user_pages_fast(mm, zd_dax_mapping_addr(map) + 7 * PAGE, 1, 0, &pinned), 1);
	zd_free_p2pmem(p, mem, 18 * PAGE);
	zd_teardown_hook = record;
	CHECK_EQ(zd_p2pdma_remove_timeout(p, 10, &who), -ETIMEDOUT);
	/* the mapping has put its pages; the pin, and two that aren't freed, are left */
	CHECK_EQ(who.nr_pages, 3);
	CHECK_EQ(who.pfns[0], zd_page_to_pfn(pinned));
	CHECK_EQ(who.pfns[1], zd_page_to_pfn(zd_p2pmem_page(p, mem + 18 * PAGE)));
	CHECK_EQ(zd_dax_read(map, 0, &none, 8), -ENODEV);
	CHECK_EQ(zd_alloc_p2pmem(p, PAGE, &none), -ENODEV);
	CHECK_EQ(zd_p2pdma_mmap(p, NULL, mem + 18 * PAGE, PAGE, PROT_READ, 0, &map), -ENODEV);
	CHECK(!memcmp(zd_page_address(pinned), &(uint64_t){ word(3, 7, 0) }, 8));
	CHECK_EQ(times, 0);

	zd_free_p2pmem(p, mem + 18 * PAGE, 2 * PAGE);
	zd_unpin_user_page(pinned);
	CHECK_EQ(available(p), N);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	zd_teardown_hook = NULL;
	CHECK_EQ(times, 1);
	CHECK(!strcmp(steps, "kill revoke put wait wait exit release"));
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_dax_munmap(map), 0);

	zd_devm_init(&devm);
	*steps = '\0';
	CHECK_EQ(zd_devm_p2pdma_add_resource(&devm, &res, &p), 0);
	removing = zd_p2pdma_pagemap(p);
	zd_teardown_hook = record;
	CHECK_EQ(zd_devm_release_all(&devm), 5);
	zd_teardown_hook = NULL;
	CHECK(!strcmp(steps, "kill revoke put wait exit release"));
	close(fd);
}

/* --- clients at once --- */

#define CLIENTS	3

struct client {
	pthread_t thread;
	struct zd_p2pdma *p;
	struct zd_mm *mm;
	uint64_t rng, id, rounds;
	const bool *stop;
};

/* What one thread has allocated no other has, with references got and put in any order. */
static void *be_client(void *arg)
{
	struct client *c = arg;

	while (!__atomic_load_n(c->stop, __ATOMIC_RELAXED)) {
		size_t nr = 1 + rnd(&c->rng) % 40;
		struct zd_dax_mapping *map = NULL;
		struct zd_page *pinned[40];
		void *mem;
		long n = 0;
		int rc = zd_alloc_p2pmem(c->p, nr * PAGE, &mem);

		if (rc == -ENOMEM)
			continue;
		CHECK_EQ(rc, 0);
		fill(mem, nr, c->id);
		if (rnd(&c->rng) % 2) {
			CHECK_EQ(zd_p2pdma_mmap(c->p, c->mm, mem, nr * PAGE, PROT_READ, 0, &map),
				 0);
			zd_free_p2pmem(c->p, mem, nr * PAGE);
			n = zd_pin_user_pages_fast(c->mm, zd_dax_mapping_addr(map), nr, 0, pinned);
			CHECK_EQ(n, nr);
			if (rnd(&c->rng) % 2)
				CHECK_FILLED(zd_dax_mapping_addr(map), nr, c->id);
			CHECK_EQ(zd_dax_munmap(map), 0);
		}
		CHECK_FILLED(mem, nr, c->id);
		if (n)
			zd_unpin_user_pages(pinned, n);
		else
			zd_free_p2pmem(c->p, mem, nr * PAGE);
		c->rounds++;
	}
	return NULL;
}

static void clients(uint64_t *rng)
{
	int fd = new_memfd(N * PAGE);
	struct zd_p2pdma *p = provider_of(fd, N);
	struct zd_mm *mm = open_mm();
	struct client c[CLIENTS];
	bool stop = false;

	for (int i = 0; i < CLIENTS; i++) {
		c[i] = (struct client){
			.p = p, .mm = mm, .rng = rnd(rng) | 1, .id = 10 + i, .stop = &stop
		};
		CHECK(!pthread_create(&c[i].thread, NULL, be_client, &c[i]));
	}
	usleep(200000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < CLIENTS; i++)
		CHECK(!pthread_join(c[i].thread, NULL));
	CHECK(c[0].rounds + c[1].rounds + c[2].rounds > 0);
	CHECK_EQ(available(p), N);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	CHECK_EQ(zd_mm_close(mm), 0);
	close(fd);
}

int main(int argc, char **argv)
{
	uint64_t rng = seed(argc, argv);

	the_last_put_frees();
	all_of_it();
	not_published();
	part_of_a_region();
	removal();
	clients(&rng);
	return 0;
}
