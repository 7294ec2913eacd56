/* SPDX-License-Identifier: MIT */
/* Pages go out and come home with their content, on each kind of device, and
 * the counts say so. */
#include "tests/integration/lib_test.h"

#define N 1300	/* more than two batches, and not a multiple of one */

/* Whole pages only: memory outside the first and the last page boundary stays. */
static void odd_range(struct zd_mm *mm, struct zd_device *dev, uint64_t *rng)
{
	struct zd_migrate_result r;
	zd_pfn_t pfns[N];
	char *p = map(N);
	struct zd_mm_stats before = stats(mm), s;

	fill(p, N, 1);
	/* pages 1 .. N - 3 are whole */
	CHECK_EQ(zd_mm_register(mm, p + 100, (N - 2) * PAGE - 50), 0);
	migrate_out(mm, p + 1, (N - 2) * PAGE - 1, N - 3, dev, &r);
	CHECK_EQ(r.moved, N - 3);
	CHECK_EQ(r.absent + r.pinned + r.shared + r.protection + r.busy + r.device + r.zero, 0);
	CHECK_EQ(resident(p, N), 3);
	CHECK_EQ(zd_device_live_pages(dev), N - 3);

	CHECK_EQ(zd_migrate_device_pfns(mm, p + PAGE, (N - 3) * PAGE, pfns, N - 3), 0);
	for (int i = 0; i < N - 3; i++)
		CHECK(zd_device_page_index(dev, pfns[i]) < dev->nr_pages);
	s = stats(mm);
	CHECK_EQ(s.pages_out - before.pages_out, N - 3);
	CHECK_EQ(s.pages_device, N - 3);
	CHECK_EQ(s.bytes_to_device - before.bytes_to_device, (N - 3) * PAGE);

	/* home by faults, in any order; each page exactly once */
	for (int i = 0; i < 200; i++) {
		size_t k = rnd(rng) % N;

		CHECK_EQ(*(uint64_t *)(p + k * PAGE + 8), word(1, k, 1));
	}
	CHECK_FILLED(p, N, 1);
	s = stats(mm);
	CHECK_EQ(s.pages_device, 0);
	CHECK_EQ(s.pages_home - before.pages_home, N - 3);
	CHECK_EQ(s.bytes_from_device - before.bytes_from_device, (N - 3) * PAGE);
	CHECK(s.faults_home > before.faults_home);
	CHECK_EQ(s.pages_freed, before.pages_freed);
	CHECK_EQ(zd_device_live_pages(dev), 0);
	CHECK_EQ(zd_mm_unregister(mm, p, N * PAGE), 0);
	munmap(p, N * PAGE);
}

/* Out, changed at home, out again: the newest content wins; and home by call. */
static void again(struct zd_mm *mm, struct zd_device *dev)
{
	struct zd_migrate_result r;
	char *p = evicted(mm, N, 2, dev);

	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(r.already, N);
	for (int round = 3; round < 6; round++) {
		fill(p, N, round);
		evict(mm, p, N, dev);
	}
	CHECK_EQ(zd_migrate_to_ram(mm, p, N * PAGE, &r), 0);
	CHECK_EQ(r.moved, N);
	CHECK_EQ(resident(p, N), N);
	CHECK_EQ(zd_migrate_to_ram(mm, p, N * PAGE, &r), 0);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(r.already, N);
	CHECK_FILLED(p, N, 5);
	munmap(p, N * PAGE);
}

/* Pages of zeros, untouched pages and pages of the zero page cost nothing. */
static void zeros(struct zd_mm *mm, struct zd_device *dev)
{
	struct zd_migrate_result r;
	char *p = map(64);

	CHECK_EQ(zd_mm_register(mm, p, 64 * PAGE), 0);
	fill(p, 16, 7);
	for (int i = 16; i < 32; i++)		/* written, with zeros */
		*(volatile char *)(p + i * PAGE) = 0;
	for (int i = 32; i < 48; i++)		/* only read */
		(void)*(volatile char *)(p + i * PAGE);
	migrate_out(mm, p, 64 * PAGE, 16, dev, &r);
	CHECK_EQ(r.moved, 16);
	CHECK_EQ(r.zero, 16);
	CHECK_EQ(r.absent, 32);
	CHECK_EQ(zd_device_live_pages(dev), 16);
	CHECK_FILLED(p, 16, 7);
	CHECK(is_zero(p + 16 * PAGE, 48 * PAGE));
	munmap(p, 64 * PAGE);
}

static void malloced(struct zd_mm *mm, struct zd_device *dev)
{
	size_t len = 3000000;
	unsigned char *p = malloc(len);
	struct zd_migrate_result r;

	CHECK(p);
	for (size_t i = 0; i < len; i++)
		p[i] = i * 31 + i / 4096 + 1;
	CHECK_EQ(zd_mm_register(mm, p, len), 0);
	migrate_out(mm, p, len, len / PAGE - 1, dev, &r);
	CHECK(r.moved >= len / PAGE - 1);
	for (size_t i = 0; i < len; i++)
		CHECK(p[i] == (unsigned char)(i * 31 + i / 4096 + 1));
	CHECK_EQ(zd_migrate_to_device(mm, p, len, dev, &r), 0);
	CHECK_EQ(zd_mm_unregister(mm, p, len), 0);
	CHECK_EQ(zd_device_live_pages(dev), 0);
	for (size_t i = 0; i < len; i++)
		CHECK(p[i] == (unsigned char)(i * 31 + i / 4096 + 1));
	free(p);
}

int main(int argc, char **argv)
{
	uint64_t rng = seed(argc, argv);

	for (int kind = 0; kind < 4; kind++) {
		struct zd_mm *mm = open_mm();
		struct zd_device *dev = kind == 3 ? lz4_device(2 * N) :
					kind == 2 ? file_device(2 * N) :
						    ram_device(2 * N);

		if (kind == 1)
			set_latency(dev, 200);
		odd_range(mm, dev, &rng);
		again(mm, dev);
		zeros(mm, dev);
		malloced(mm, dev);
		close_mm(mm, dev);
	}
	return 0;
}
