/* SPDX-License-Identifier: MIT */
/*
 * What it costs that there are several devices: 64 MiB out to a ram device and home again, where
 * the device is the last of four of its zd_mm, beside the same where it is the only one.
 *
 * Two zd_mms by turns, each with memory and a device of its own.  In the first rounds the devices
 * have no memory yet, so these aren't counted.
 */
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "zonedev/migrate.h"

#define BYTES	(64UL << 20)
#define OTHERS	3
#define ROUNDS	41
#define WARM_UP	2

struct side {
	struct zd_mm *mm;
	struct zd_device *dev, *others[OTHERS];
	char *mem;
	double out[ROUNDS], home[ROUNDS];
};

static struct zd_device *new_device(unsigned long bytes)
{
	struct zd_device *dev;
	int rc = zd_ram_device_create(bytes, &dev);

	if (rc)
		bench_die("zd_ram_device_create: %s", strerror(-rc));
	return dev;
}

static void migrate(struct side *s, size_t len, struct zd_device *dev)
{
	struct zd_migrate_result r;
	int rc = zd_migrate_to_device(s->mm, s->mem, len, dev, &r);

	if (rc || r.moved + r.already != len / ZD_PAGE_SIZE)
		bench_die("zd_migrate_to_device: %d, %llu pages", rc, (unsigned long long)r.moved);
}

static void fetch(struct side *s, size_t len)
{
	int rc = zd_migrate_to_ram(s->mm, s->mem, len, NULL);

	if (rc)
		bench_die("zd_migrate_to_ram: %s", strerror(-rc));
}

static void begin(struct side *s, bool has_others)
{
	int rc;

	s->mm = bench_open_mm(0);
	s->mem = bench_map(BYTES, 0);
	bench_fill(s->mem, BYTES);
	rc = zd_mm_register(s->mm, s->mem, BYTES);
	if (rc)
		bench_die("zd_mm_register: %s", strerror(-rc));
	for (int i = 0; has_others && i < OTHERS; i++) {
		s->others[i] = new_device(1UL << 20);
		migrate(s, ZD_PAGE_SIZE, s->others[i]);	/* so it is attached */
		fetch(s, ZD_PAGE_SIZE);
	}
	s->dev = new_device(2 * BYTES);
}

static void one_round(struct side *s, int r)
{
	uint64_t t0 = bench_now_ns(), t1, t2;

	migrate(s, BYTES, s->dev);
	t1 = bench_now_ns();
	fetch(s, BYTES);
	t2 = bench_now_ns();
	if (r < 0)
		return;
	s->out[r] = (double)(t1 - t0) / (BYTES / ZD_PAGE_SIZE);
	s->home[r] = (double)(t2 - t1) / (BYTES / ZD_PAGE_SIZE);
}

static void end(struct side *s)
{
	bench_check(s->mem, BYTES);
	if (zd_mm_close(s->mm) || zd_device_unregister(s->dev))
		bench_die("can't close");
	for (int i = 0; i < OTHERS; i++)
		if (s->others[i] && zd_device_unregister(s->others[i]))
			bench_die("can't close");
	munmap(s->mem, BYTES);
}

int main(void)
{
	static struct side alone, last;

	begin(&alone, false);
	begin(&last, true);
	for (int r = -WARM_UP; r < ROUNDS; r++) {
		one_round(r & 1 ? &alone : &last, r);
		one_round(r & 1 ? &last : &alone, r);
	}
	bench_report("a page out to the last of four devices, beside one alone", "ns", last.out,
		     alone.out, ROUNDS, BENCH_AT_MOST, 1.03);
	bench_report("  and home again", "ns", last.home, alone.home, ROUNDS, BENCH_AT_MOST, 1.03);
	end(&alone);
	end(&last);
	return 0;
}
