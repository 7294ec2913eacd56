/* SPDX-License-Identifier: MIT */
/* munmap frees device pages at once, without bringing them home; the address can
 * be mapped anew and reads as zeros. */
#include "tests/integration/lib_gate.h"

#define N	200
#define BIG	1200	/* pages: three batches */

static struct zd_mm *mm;
static struct gate *g;

static void remap_same(char *p, size_t pages)
{
	CHECK(mmap(p, pages * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == p);
}

static void whole(void)
{
	char *p = evicted(mm, N, 1, &g->dev);
	uint64_t home = stats(mm).pages_home, freed = stats(mm).pages_freed;

	CHECK(!munmap(p, N * PAGE));
	remap_same(p, N);	/* before another mapping comes there */
	WAIT_FOR(!gate_used(g));
	CHECK_EQ(stats(mm).pages_home, home);
	CHECK_EQ(stats(mm).pages_freed, freed + N);
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, &g->dev, NULL), -EINVAL);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	CHECK(is_zero(p, N * PAGE));
	fill(p, N, 2);
	evict(mm, p, N, &g->dev);
	CHECK_FILLED(p, N, 2);
	munmap(p, N * PAGE);
}

static void part(void)
{
	char *p = evicted(mm, N, 1, &g->dev);

	CHECK(!munmap(p + 50 * PAGE, 100 * PAGE));
	remap_same(p + 50 * PAGE, 100);
	WAIT_FOR(gate_used(g) == N - 100);
	CHECK(is_zero(p + 50 * PAGE, 100 * PAGE));
	CHECK_EQ(bad_page(p, 0, 50, 1), 50);
	CHECK_EQ(bad_page(p, 150, N, 1), N);
	munmap(p, N * PAGE);

	/* MAP_FIXED over the range is an unmap too */
	p = evicted(mm, N, 2, &g->dev);
	CHECK(mmap(p, N / 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == p);
	WAIT_FOR(gate_used(g) == N / 2);
	CHECK(is_zero(p, N / 2 * PAGE));
	CHECK_EQ(bad_page(p, N / 2, N, 2), N);
	munmap(p, N * PAGE);
}

static void in_flight(void)
{
	struct migration m = { .mm = mm, .pages = N, .dev = &g->dev };
	char *p = m.mem = map(N);

	fill(p, N, 1);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	migration_start(&m);
	CHECK(!munmap(p, N * PAGE));
	remap_same(p, N);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	fill(p, N / 2, 2);
	CHECK(gate_waiting(g));
	migration_finish(&m);
	WAIT_FOR(!gate_used(g));
	CHECK_FILLED(p, N / 2, 2);
	CHECK(is_zero(p + N / 2 * PAGE, N / 2 * PAGE));
	munmap(p, N * PAGE);
}

/* While a migration of several batches is under way, memory that it has not come to yet is
 * unmapped, and mapped anew: the migration must leave the new mapping alone. */
static void behind_a_batch(void)
{
	struct migration m = { .mm = mm, .pages = BIG, .dev = &g->dev };
	char *p = m.mem = map(BIG);

	fill(p, BIG, 1);
	CHECK_EQ(zd_mm_register(mm, p, BIG * PAGE), 0);
	migration_start(&m);
	CHECK(!munmap(p + 600 * PAGE, (BIG - 600) * PAGE));
	remap_same(p + 600 * PAGE, BIG - 600);		/* not registered */
	fill(p + 600 * PAGE, BIG - 600, 2);
	CHECK(gate_waiting(g));
	migration_finish(&m);
	CHECK_EQ(m.result.moved, 600);
	CHECK_EQ(resident(p + 600 * PAGE, BIG - 600), BIG - 600);
	CHECK_FILLED(p + 600 * PAGE, BIG - 600, 2);
	CHECK_FILLED(p, 600, 1);
	munmap(p, BIG * PAGE);
}

int main(void)
{
	mm = open_mm();
	g = gate_device(BIG);
	whole();
	part();
	in_flight();
	behind_a_batch();
	close_mm(mm, &g->dev);
	return 0;
}
