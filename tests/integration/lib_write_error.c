/* SPDX-License-Identifier: MIT */
/* A device that can't be written, or is full: the pages stay, nothing is lost,
 * and the counts say why. */
#include "tests/integration/lib_gate.h"

#define N 300

static struct zd_mm *mm;
static struct gate *g;

static void cant_write(void)
{
	struct zd_migrate_result r;
	char *p = map(N);
	uint64_t refused = stats(mm).refused_device;

	fill(p, N, 1);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	gate_error(g, ZD_TO_DEVICE, -EIO);
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, &g->dev, &r), 0);
	CHECK_EQ(r.device, N);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(resident(p, N), N);
	CHECK_EQ(gate_used(g), 0);
	CHECK_EQ(stats(mm).refused_device - refused, N);
	CHECK_EQ(stats(mm).pages_device, 0);
	CHECK_FILLED(p, N, 1);
	gate_error(g, ZD_TO_DEVICE, 0);
	evict(mm, p, N, &g->dev);
	CHECK_FILLED(p, N, 1);
	munmap(p, N * PAGE);
}

/* A page can't be written, and comes back; a thread that needs one has it before that. */
static void waiter(void)
{
	struct migration m = { .mm = mm, .pages = N, .dev = &g->dev };
	char *p = m.mem = map(N);
	struct toucher t;

	fill(p, N, 2);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	migration_start(&m);
	toucher_start(&t, mm, p + 30 * PAGE);
	CHECK_EQ(toucher_join(&t), word(2, 30, 0));
	gate_error(g, ZD_TO_DEVICE, -ENOSPC);
	migration_finish(&m);
	CHECK_EQ(m.result.device, N);
	CHECK_EQ(m.result.moved, 0);
	gate_error(g, ZD_TO_DEVICE, 0);
	CHECK_FILLED(p, N, 2);
	munmap(p, N * PAGE);
}

static void full(void)
{
	struct zd_migrate_result r;
	size_t nr = g->dev.nr_pages + 100;
	uint64_t refused = stats(mm).refused_device;
	char *p = map(nr);

	fill(p, nr, 3);
	CHECK_EQ(zd_mm_register(mm, p, nr * PAGE), 0);
	CHECK_EQ(zd_migrate_to_device(mm, p, nr * PAGE, &g->dev, &r), 0);
	CHECK_EQ(r.moved, nr - 100);
	CHECK_EQ(r.device, 100);
	CHECK_EQ(resident(p, nr), 100);
	CHECK_EQ(stats(mm).refused_device - refused, 100);
	CHECK_FILLED(p, nr, 3);
	/* room again */
	migrate_out(mm, p + 100 * PAGE, (nr - 100) * PAGE, nr - 100, &g->dev, &r);
	CHECK_EQ(r.moved, nr - 100);
	CHECK_FILLED(p, nr, 3);
	munmap(p, nr * PAGE);
}

int main(void)
{
	zd_set_log(quiet, NULL);
	mm = open_mm();
	g = gate_device(N + 350);
	cant_write();
	waiter();
	full();
	close_mm(mm, &g->dev);
	return 0;
}
