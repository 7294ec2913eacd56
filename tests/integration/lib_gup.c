/* SPDX-License-Identifier: MIT */
/*
 * A page of a managed range that is held stays in RAM; a page on the device comes
 * home to be held; a page that is let go may leave again.
 */
#include "tests/integration/lib_test.h"

#define N 600
#define THREADS 3

static struct zd_page *pages[N];

static void pinned_pages_stay(void)
{
	struct zd_device *dev = ram_device(N);
	struct zd_mm *mm = open_mm();
	char *mem = evicted(mm, N, 1, dev);
	struct zd_migrate_result r;

	/* from the middle of a page on; the pages come home to be pinned */
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem + 100, 50, ZD_FOLL_WRITE, pages), 50);
	CHECK_EQ(resident(mem, 50), 50);
	for (int i = 0; i < 50; i++) {
		CHECK(zd_page_address(pages[i]) == mem + i * PAGE);
		CHECK(zd_page_maybe_dma_pinned(pages[i]));
	}
	CHECK_EQ(zd_migrate_to_device(mm, mem, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.pinned, 50);
	CHECK_EQ(resident(mem, N), 50);
	CHECK_EQ(zd_mm_close(mm), -EBUSY);

	/* some get a second holder, and are held when the first lets go */
	CHECK_EQ(zd_get_user_pages_fast(mm, mem, 10, 0, pages + 50), 10);
	CHECK(pages[50] == pages[0]);
	zd_unpin_user_pages_dirty_lock(pages, 50, true);
	CHECK(!zd_page_maybe_dma_pinned(pages[50]));
	CHECK_EQ(zd_migrate_to_device(mm, mem, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.pinned, 10);
	CHECK_EQ(r.moved, 40);
	for (int i = 0; i < 10; i++)
		zd_put_page(pages[50 + i]);
	migrate_out(mm, mem, N * PAGE, 10, dev, &r);
	CHECK_EQ(r.moved, 10);
	CHECK_FILLED(mem, N, 1);
	close_mm(mm, dev);
}

static void what_cannot_be_held(void)
{
	struct zd_device *dev = ram_device(N);
	struct zd_mm *mm = open_mm();
	char *mem = evicted(mm, N, 2, dev), *other = map(1);

	CHECK_EQ(zd_pin_user_pages_fast(mm, other, 1, 0, pages), -EFAULT);
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 1, 1u << 31, pages), -EINVAL);
	/* up to the end of the range */
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem + (N - 3) * PAGE, 5, 0, pages), 3);
	zd_unpin_user_pages(pages, 3);
	CHECK(!mprotect(mem, PAGE, PROT_NONE));
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 1, 0, pages), -EFAULT);
	CHECK(!mprotect(mem, PAGE, PROT_READ | PROT_WRITE));

	/* unmapped while they are held: the descriptors stay the holder's */
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 4, 0, pages), 4);
	CHECK(!munmap(mem, 4 * PAGE));
	CHECK_EQ(zd_mm_close(mm), -EBUSY);
	CHECK(zd_page_maybe_dma_pinned(pages[0]));
	zd_unpin_user_pages(pages, 4);
	CHECK_EQ(bad_page(mem, 4, N, 2), N);
	munmap(other, PAGE);
	close_mm(mm, dev);
}

/*
 * Pages that the kernel may free at any moment (MADV_FREE) aren't taken out for a while,
 * pinned in between or not.  And if the kernel frees one that is pinned, its place stays
 * pinned, with the next content that is written there.
 */
static void the_kernel_takes_it(void)
{
	struct zd_device *dev = ram_device(N);
	struct zd_mm *mm = open_mm();
	struct zd_migrate_result r;
	char *mem = map(8);

	fill(mem, 8, 4);
	CHECK_EQ(zd_mm_register(mm, mem, 8 * PAGE), 0);
	CHECK(!madvise(mem, 8 * PAGE, MADV_FREE));
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 4, 0, pages), 4);
	CHECK_EQ(zd_migrate_to_device(mm, mem, 8 * PAGE, dev, &r), 0);
	CHECK_EQ(r.pinned, 4);
	CHECK_EQ(r.moved, 0);
	zd_unpin_user_pages(pages, 4);
	CHECK_EQ(zd_migrate_to_device(mm, mem, 8 * PAGE, dev, &r), 0);
	CHECK_EQ(r.moved, 0);

	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 4, 0, pages), 4);
	madvise(mem, 4 * PAGE, MADV_PAGEOUT);
	if (resident(mem, 4))
		printf("MADV_PAGEOUT has left %zu pages here\n", resident(mem, 4));
	else
		CHECK(is_zero(mem, 4 * PAGE));
	CHECK(zd_page_address(pages[3]) == mem + 3 * PAGE);
	fill(mem, 4, 5);
	CHECK_EQ(zd_migrate_to_device(mm, mem, 4 * PAGE, dev, &r), 0);
	CHECK_EQ(r.pinned, 4);
	zd_unpin_user_pages(pages, 4);
	CHECK_EQ(zd_mm_unregister(mm, mem, 8 * PAGE), 0);
	munmap(mem, 8 * PAGE);
	close_mm(mm, dev);
}

/* Entries lie in a row for a GiB: a walk over its end goes on where the next begin. */
static void over_a_gib(void)
{
	const size_t gib = 1UL << 30;
	struct zd_mm *mm = open_mm();
	char *raw = mmap(NULL, 2 * gib, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			 0);
	char *mem = (char *)(((uintptr_t)raw + gib) & ~(gib - 1)) - 8 * PAGE;

	CHECK(raw != MAP_FAILED);
	CHECK(!mprotect(mem, 16 * PAGE, PROT_READ | PROT_WRITE));
	fill(mem, 16, 1);
	/* in two calls: registered in one, their entries would lie in a row as well */
	CHECK_EQ(zd_mm_register(mm, mem, 8 * PAGE), 0);
	CHECK_EQ(zd_mm_register(mm, mem + 8 * PAGE, 8 * PAGE), 0);
	for (int again = 0; again < 2; again++) {
		CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 16, 0, pages), 16);
		for (int i = 0; i < 16; i++)
			CHECK(zd_page_address(pages[i]) == mem + i * PAGE);
		zd_unpin_user_pages(pages, 16);
	}
	CHECK_EQ(zd_mm_close(mm), 0);
	munmap(raw, 2 * gib);
}

/* Addresses that no program can have. */
static void out_of_range(void)
{
	struct zd_mm *mm = open_mm();

	CHECK_EQ(zd_pin_user_pages_fast(mm, (void *)-(long)PAGE, 1, 0, pages), -EFAULT);
	CHECK_EQ(zd_pin_user_pages_fast(mm, (void *)(1L << 47), 1, 0, pages), -EFAULT);
	CHECK_EQ(zd_pin_user_pages_fast(mm, (void *)PAGE, UINT64_C(1) << 52, 0, pages), -EFAULT);
	CHECK_EQ(zd_mm_close(mm), 0);
}

struct racer {
	pthread_t thread;
	struct zd_mm *mm;
	char *mem;
	uint64_t rng, pins;
	const bool *stop;
};

/* While pinned, a page is where it was, whichever thread migrates. */
static void *race(void *arg)
{
	struct racer *r = arg;
	struct zd_page *p[8];

	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		size_t first = rnd(&r->rng) % (N - 8);
		long n = zd_pin_user_pages_fast(r->mm, r->mem + first * PAGE, 8, 0, p);

		if (n == -EAGAIN)
			continue;
		CHECK(n > 0);
		CHECK_EQ(resident(r->mem + first * PAGE, n), (size_t)n);
		for (long i = 0; i < n; i++)
			CHECK(zd_page_address(p[i]) == r->mem + (first + i) * PAGE);
		zd_unpin_user_pages(p, n);
		r->pins++;
	}
	return NULL;
}

static void race_with_migration(uint64_t *rng)
{
	struct zd_device *dev = ram_device(N);
	struct zd_mm *mm = open_mm();
	char *mem = evicted(mm, N, 3, dev);
	struct racer r[THREADS];
	bool stop = false;

	for (int i = 0; i < THREADS; i++) {
		r[i] = (struct racer){ .mm = mm, .mem = mem, .rng = rnd(rng) | 1, .stop = &stop };
		CHECK(!pthread_create(&r[i].thread, NULL, race, &r[i]));
	}
	for (int i = 0; i < 300; i++) {
		struct zd_migrate_result res;

		CHECK_EQ(zd_migrate_to_device(mm, mem, N * PAGE, dev, &res), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < THREADS; i++) {
		CHECK(!pthread_join(r[i].thread, NULL));
		CHECK(r[i].pins > 0);
	}
	CHECK_FILLED(mem, N, 3);
	close_mm(mm, dev);
}

int main(int argc, char **argv)
{
	uint64_t rng = seed(argc, argv);

	pinned_pages_stay();
	what_cannot_be_held();
	over_a_gib();
	out_of_range();
	the_kernel_takes_it();
	race_with_migration(&rng);
	return 0;
}
