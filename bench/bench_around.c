/* SPDX-License-Identifier: MIT */
/*
 * Reading 64 MiB that are on the ram device from the first page to the last,
 * with fault-around, against the same with one page a fault.
 */
#include <string.h>

#include "bench.h"
#include "zonedev/migrate.h"

#define BYTES	(64UL << 20)
#define ROUNDS	7

struct side {
	struct zd_mm *mm;
	struct zd_device *dev;
	char *mem;
};

static void side_init(struct side *s, unsigned int fault_around)
{
	int rc;

	s->mm = bench_open_mm(fault_around);
	rc = zd_ram_device_create(2 * BYTES, &s->dev);
	if (rc)
		bench_die("zd_ram_device_create: %s", strerror(-rc));
	s->mem = bench_map(BYTES, 0);
	bench_fill(s->mem, BYTES);
	rc = zd_mm_register(s->mm, s->mem, BYTES);
	if (rc)
		bench_die("zd_mm_register: %s", strerror(-rc));
}

static void side_exit(struct side *s)
{
	if (zd_mm_close(s->mm) || zd_device_unregister(s->dev))
		bench_die("can't close");
}

static double touch_ms(struct side *s)
{
	struct zd_migrate_result result;
	volatile const char *mem = s->mem;
	uint64_t t;
	int rc = zd_migrate_to_device(s->mm, s->mem, BYTES, s->dev, &result);

	if (rc || result.moved != BYTES / ZD_PAGE_SIZE)
		bench_die("zd_migrate_to_device: %d, %llu pages", rc,
			  (unsigned long long)result.moved);
	t = bench_now_ns();
	for (size_t i = 0; i < BYTES; i += ZD_PAGE_SIZE)
		(void)mem[i];
	t = bench_now_ns() - t;
	bench_check(s->mem, BYTES);
	return t / 1e6;
}

int main(void)
{
	static double ours[ROUNDS], theirs[ROUNDS];
	struct side with, without;

	side_init(&with, 0);
	side_init(&without, 1);
	for (int r = 0; r < ROUNDS; r++) {
		ours[r] = touch_ms(&with);
		theirs[r] = touch_ms(&without);
	}
	bench_report("sequential touch of 64 MiB, with and without fault-around", "ms", ours,
		     theirs, ROUNDS, BENCH_SPEEDUP, 5);
	side_exit(&with);
	side_exit(&without);
	return 0;
}
