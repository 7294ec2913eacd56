/* SPDX-License-Identifier: MIT */
/*
 * GUP on a mapping of a region gives the region's pages, whichever mapping it is;
 * a page is live from the first get to the last put.
 */
#include "tests/integration/dax_test.h"

#define N	600
#define THREADS	3

static struct zd_page *pages[N];

static void are_the_regions(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	zd_pfn_t pfn = zd_dax_pagemap(dax)->pfn;
	struct zd_mm *mm = open_mm();
	struct zd_dax_mapping *map = map_all(dax, mm, 0), *part;
	char *mem = zd_dax_mapping_addr(map);

	fill(mem, N, 1);
	CHECK_EQ(live_pages(dax), 0);
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem + 10, N, ZD_FOLL_WRITE | ZD_FOLL_LONGTERM, pages),
		 N);
	CHECK_EQ(live_pages(dax), N);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(zd_page_to_pfn(pages[i]), pfn + i);
		CHECK(zd_page_pagemap(pages[i]) == zd_dax_pagemap(dax));
		CHECK(zd_page_maybe_dma_pinned(pages[i]));
		CHECK(!memcmp(zd_page_address(pages[i]), mem + i * PAGE, PAGE));
	}
	/* another mapping, another count of the same page */
	CHECK_EQ(zd_dax_mmap(dax, mm, NULL, 7 * PAGE, 2 * PAGE, PROT_READ, 0, &part), 0);
	CHECK_EQ(zd_get_user_pages_fast(mm, zd_dax_mapping_addr(part), 5, 0, pages + N - 2), 2);
	CHECK(pages[N - 2] == pages[7]);
	CHECK_EQ(zd_page_count(pages[7]), ZD_PIN_BIAS + 3);
	CHECK_EQ(zd_dax_munmap(part), 0);
	CHECK_EQ(zd_page_count(pages[7]), ZD_PIN_BIAS + 2);
	zd_put_page(pages[7]);
	zd_put_page(pages[8]);

	/* unmapped under the holder */
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_page_count(pages[7]), ZD_PIN_BIAS);
	CHECK(!memcmp(zd_page_address(pages[7]), &(uint64_t){ word(1, 7, 0) }, 8));
	CHECK_EQ(zd_mm_close(mm), 0);
	for (int i = 0; i < N; i++)
		zd_unpin_user_page(zd_pfn_to_page(pfn + i));
	CHECK_EQ(live_pages(dax), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
}

static void what_cannot_be_held(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_mm *mm = open_mm();
	struct zd_dax_mapping *map, *foreign = map_all(dax, NULL, 0);
	char *place = mmap(NULL, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);
	char *mem;

	/* with other memory right behind it */
	CHECK(place != MAP_FAILED && !munmap(place, 10 * PAGE));
	CHECK_EQ(zd_dax_mmap(dax, mm, place, 0, 10 * PAGE, PROT_READ, 0, &map), 0);
	mem = zd_dax_mapping_addr(map);
	CHECK(mem == place);
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 1, ZD_FOLL_WRITE, pages), -EFAULT);
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 1, 0, pages), 1);
	/* nor when the page's entry is there */
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 1, ZD_FOLL_WRITE, pages), -EFAULT);
	zd_unpin_user_page(pages[0]);
	CHECK_EQ(zd_pin_user_pages_fast(mm, zd_dax_mapping_addr(foreign), 1, 0, pages), -EFAULT);
	/* up to its end */
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem + 7 * PAGE, 9, 0, pages), 3);
	zd_unpin_user_pages(pages, 3);
	/* mapped with an mm, which can't be closed meanwhile */
	CHECK_EQ(zd_mm_close(mm), -EBUSY);
	CHECK(!ftruncate(fd, 4 * PAGE));
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 8, 0, pages), 4);
	zd_unpin_user_pages(pages, 4);
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem + 5 * PAGE, 1, 0, pages), -EFAULT);
	/* unmapped behind zonedev's back: no place for managed memory */
	CHECK(mmap(mem, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) == mem);
	CHECK_EQ(zd_mm_register(mm, mem, PAGE), -EINVAL);
	CHECK_EQ(zd_dax_revoke(dax), 0);
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 1, 0, pages), -EFAULT);
	CHECK_EQ(live_pages(dax), 0);
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_dax_munmap(foreign), 0);
	CHECK(!munmap(place + 10 * PAGE, 10 * PAGE));
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
}

static void direct(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	zd_pfn_t pfn;
	void *addr;

	CHECK_EQ(zd_dax_direct_access(dax, N, 1, &addr, &pfn), -ERANGE);
	CHECK_EQ(zd_dax_direct_access(dax, 0, 0, &addr, &pfn), -EINVAL);
	CHECK_EQ(zd_dax_direct_access(dax, N - 2, 5, &addr, &pfn), 2);
	CHECK_EQ(pfn, zd_dax_pagemap(dax)->pfn + N - 2);
	CHECK(zd_page_address(zd_pfn_to_page(pfn)) == addr);
	fill(addr, 2, 5);
	CHECK_EQ(zd_dax_direct_access(dax, N - 1, 1, NULL, NULL), 1);
	CHECK_EQ(zd_page_count(zd_pfn_to_page(pfn + 1)), 2);
	CHECK_EQ(live_pages(dax), 2);
	zd_put_page(zd_pfn_to_page(pfn));
	zd_put_page_refs(zd_pfn_to_page(pfn + 1), 2);
	CHECK_EQ(live_pages(dax), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
}

/* --- races --- */

struct racer {
	pthread_t thread;
	struct zd_dax *dax;
	struct zd_mm *mm;
	uint64_t rng, times;
	const bool *stop;
};

/* Few pages, so that one thread's last put meets another's first get. */
static void *hold_and_put(void *arg)
{
	struct racer *r = arg;

	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		zd_pfn_t pfn;
		uint64_t *mem;

		CHECK_EQ(zd_dax_direct_access(r->dax, rnd(&r->rng) % 2, 1, (void **)&mem, &pfn), 1);
		CHECK(zd_page_count(zd_pfn_to_page(pfn)) > 0);
		CHECK(zd_page_address(zd_pfn_to_page(pfn)) == mem);
		zd_put_page(zd_pfn_to_page(pfn));
		r->times++;
	}
	return NULL;
}

/* Maps, pins, unmaps: the pinned page is that of the address, and stays its own. */
static void *map_and_pin(void *arg)
{
	struct racer *r = arg;
	struct zd_page *p[4];

	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		uint64_t first = rnd(&r->rng) % 8;
		struct zd_dax_mapping *map;
		long n;

		CHECK_EQ(zd_dax_mmap(r->dax, r->mm, NULL, first * PAGE, 4 * PAGE, PROT_READ, 0,
				     &map),
			 0);
		n = zd_pin_user_pages_fast(r->mm, zd_dax_mapping_addr(map), 4, 0, p);
		CHECK(n > 0 || n == -EFAULT);	/* revoked already */
		CHECK_EQ(zd_dax_munmap(map), 0);
		for (long i = 0; i < n; i++) {
			CHECK_EQ(zd_page_to_pfn(p[i]), zd_dax_pagemap(r->dax)->pfn + first + i);
			CHECK_EQ(*(uint64_t *)zd_page_address(p[i]), word(9, first + i, 0));
		}
		if (n > 0)
			zd_unpin_user_pages(p, n);
		r->times++;
	}
	return NULL;
}

static void race(void *(*fn)(void *), bool revoke, uint64_t *rng)
{
	int fd = new_memfd(16 * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_mm *mm = open_mm();
	struct zd_dax_mapping *map = map_all(dax, NULL, 0);
	struct racer r[THREADS];
	bool stop = false;

	fill(zd_dax_mapping_addr(map), 16, 9);
	CHECK_EQ(zd_dax_munmap(map), 0);
	for (int i = 0; i < THREADS; i++) {
		r[i] = (struct racer){ .dax = dax, .mm = mm, .rng = rnd(rng) | 1, .stop = &stop };
		CHECK(!pthread_create(&r[i].thread, NULL, fn, &r[i]));
	}
	for (int i = 0; i < 100; i++) {
		if (revoke)
			CHECK_EQ(zd_dax_revoke(dax), 0);
		usleep(1000);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < THREADS; i++) {
		CHECK(!pthread_join(r[i].thread, NULL));
		CHECK(r[i].times > 0);
	}
	CHECK_EQ(live_pages(dax), 0);
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
}

int main(int argc, char **argv)
{
	uint64_t rng = seed(argc, argv);

	are_the_regions();
	what_cannot_be_held();
	direct();
	race(hold_and_put, false, &rng);
	race(map_and_pin, true, &rng);
	return 0;
}
