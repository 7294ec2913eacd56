/* SPDX-License-Identifier: MIT */
/*
 * zd_migrate_to_device() of 256 MiB to the ram device, against memcpy() of the
 * same pages to memory that is there already; and zd_migrate_to_ram() of the pages, against
 * the memcpy() back.
 *
 * A round: map, fill, memcpy away and back, register, out, home, compare, unmap.  In the
 * first round the device has no memory yet, so that round isn't counted.
 */
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "zonedev/migrate.h"

#define BYTES	(256UL << 20)
#define ROUNDS	9

struct figures {
	double out[ROUNDS], home[ROUNDS], copy[ROUNDS], copy_back[ROUNDS];
};

static double gib_per_s(uint64_t ns)
{
	return BYTES / 1.073741824 / ns;
}

static void one_round(struct zd_mm *mm, struct zd_device *dev, char *copy, int huge,
		      struct figures *f, int r)
{
	struct zd_migrate_result result;
	char *mem = bench_map(BYTES, huge);
	uint64_t t0, t1, t2;
	int rc;

	bench_fill(mem, BYTES);
	t0 = bench_now_ns();
	memcpy(copy, mem, BYTES);
	t1 = bench_now_ns();
	memcpy(mem, copy, BYTES);
	t2 = bench_now_ns();
	if (r >= 0) {
		f->copy[r] = gib_per_s(t1 - t0);
		f->copy_back[r] = gib_per_s(t2 - t1);
	}

	rc = zd_mm_register(mm, mem, BYTES);
	if (rc)
		bench_die("zd_mm_register: %s", strerror(-rc));
	t0 = bench_now_ns();
	rc = zd_migrate_to_device(mm, mem, BYTES, dev, &result);
	t1 = bench_now_ns();
	if (rc || result.moved != BYTES / ZD_PAGE_SIZE)
		bench_die("zd_migrate_to_device: %d, %llu pages", rc,
			  (unsigned long long)result.moved);
	if (r >= 0)
		f->out[r] = gib_per_s(t1 - t0);

	t0 = bench_now_ns();
	rc = zd_migrate_to_ram(mm, mem, BYTES, &result);
	t1 = bench_now_ns();
	if (rc || result.moved != BYTES / ZD_PAGE_SIZE)
		bench_die("zd_migrate_to_ram: %d, %llu pages", rc,
			  (unsigned long long)result.moved);
	if (r >= 0)
		f->home[r] = gib_per_s(t1 - t0);
	bench_check(mem, BYTES);
	rc = zd_mm_unregister(mm, mem, BYTES);
	if (rc)
		bench_die("zd_mm_unregister: %s", strerror(-rc));
	munmap(mem, BYTES);
}

static void compare(struct zd_mm *mm, struct zd_device *dev, int huge, const char *out,
		    const char *home, double goal)
{
	static struct figures f;
	char *copy = bench_map(BYTES, huge);
	double theirs[ROUNDS];

	memset(copy, 1, BYTES);
	for (int r = -1; r < ROUNDS; r++)
		one_round(mm, dev, copy, huge, &f, r);
	memcpy(theirs, f.copy, sizeof(theirs));
	bench_report(out, "GiB/s", f.out, theirs, ROUNDS, BENCH_AT_LEAST, goal);
	bench_report(home, "GiB/s", f.home, f.copy_back, ROUNDS, BENCH_NO_GOAL, 0);
	munmap(copy, BYTES);
}

int main(void)
{
	struct zd_mm *mm = bench_open_mm(0);
	struct zd_device *dev;
	int rc = zd_ram_device_create(2 * BYTES, &dev);

	if (rc)
		bench_die("zd_ram_device_create: %s", strerror(-rc));
	compare(mm, dev, 0, "256 MiB out to a ram device, 4 KiB pages, beside memcpy",
		"  and home again", 0.5);
	compare(mm, dev, 1, "256 MiB out to a ram device, huge pages, beside memcpy",
		"  and home again", 0.8);
	if (zd_mm_close(mm) || zd_device_unregister(dev))
		bench_die("can't close");
	return 0;
}
