/* SPDX-License-Identifier: MIT */
/*
 * A device of persistent memory (zonedev/pmem_device.h) beside the ram device: one fault on a page
 * that is out, at random, and pages moved out.  By address, and by copy (a file in a tmpfs that was
 * there before).
 *
 * Each side has a zd_mm of its own, memory of the same size, and a device that is memory of the same
 * machine: what differs is the driver.  The sides take turns, a block of faults each, or a pass of
 * pages out.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "zonedev/migrate.h"
#include "zonedev/pmem_device.h"
#include "zonedev/ram.h"

#define BYTES	(64UL << 20)
#define PAGES	(BYTES / ZD_PAGE_SIZE)
#define BLOCK	1024			/* faults in a row, as in bench_fault.c */
#define PASSES	8
#define BLOCKS	(PASSES * PAGES / BLOCK)

enum side_name { RAM, BY_ADDRESS, BY_COPY, SIDES };

struct side {
	struct zd_mm *mm;
	struct zd_device *dev;
	char *mem;
	double out[PASSES];		/* GiB/s */
	double fault[BLOCKS];		/* us, the median of a block */
};

static struct side side[SIDES];

static struct zd_device *ram(void)
{
	struct zd_device *dev;

	if (zd_ram_device_create(2 * BYTES, &dev))
		bench_die("no ram device");
	return dev;
}

static struct zd_device *pmem(const char *path, uint64_t bytes)
{
	struct zd_device *dev;
	char err[256];

	if (zd_pmem_device_create(path, bytes, 0, &dev, err, sizeof(err)))
		bench_die("%s", err);
	return dev;
}

/* A file that was there before the device was. */
static struct zd_device *pmem_old(void)
{
	struct zd_device *dev;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/zd-bench-%d", getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		bench_skip("/dev/shm is not writable");
	if (ftruncate(fd, 2 * BYTES) || close(fd))
		bench_die("%s can't have %lu bytes", path, 2 * BYTES);
	dev = pmem(path, 0);
	unlink(path);
	return dev;
}

static void init(struct side *s, struct zd_device *dev)
{
	s->mm = bench_open_mm(1);
	s->dev = dev;
	s->mem = bench_map(BYTES, 0);
	bench_fill(s->mem, BYTES);
	if (zd_mm_register(s->mm, s->mem, BYTES))
		bench_die("zd_mm_register");
}

static double out(struct side *s)
{
	struct zd_migrate_result result;
	uint64_t start = bench_now_ns();
	int rc = zd_migrate_to_device(s->mm, s->mem, BYTES, s->dev, &result);

	if (rc || result.moved != PAGES)
		bench_die("zd_migrate_to_device: %d, %llu pages", rc,
			  (unsigned long long)result.moved);
	return BYTES / 1.073741824 / (double)(bench_now_ns() - start);
}

static uint32_t order[PAGES];

/* The median of BLOCK faults. */
static double touch(volatile const char *mem, size_t first)
{
	double us[BLOCK];

	for (size_t i = 0; i < BLOCK; i++) {
		uint64_t start = bench_now_ns();

		(void)mem[order[first + i] * ZD_PAGE_SIZE];
		us[i] = (double)(bench_now_ns() - start) / 1e3;
	}
	return bench_median(us, BLOCK);
}

static void one_pass(unsigned int pass)
{
	size_t block = pass * (PAGES / BLOCK);

	for (unsigned int k = 0; k < SIDES; k++) {
		struct side *s = &side[(k + pass) % SIDES];

		s->out[pass] = out(s);
	}
	for (size_t first = 0; first < PAGES; first += BLOCK, block++) {
		for (unsigned int k = 0; k < SIDES; k++) {
			struct side *s = &side[(k + block) % SIDES];

			s->fault[block] = touch(s->mem, first);
		}
	}
	for (unsigned int k = 0; k < SIDES; k++)
		bench_check(side[k].mem, BYTES);
}

/* bench_report() sorts what it is given. */
static void report_fault(const char *what, enum side_name name, enum bench_goal goal, double limit)
{
	static double ours[BLOCKS], theirs[BLOCKS];

	memcpy(ours, side[name].fault, sizeof(ours));
	memcpy(theirs, side[RAM].fault, sizeof(theirs));
	bench_report(what, "us", ours, theirs, BLOCKS, goal, limit);
}

/* Without the first pass, in which the devices get their memory. */
static void report_out(const char *what, enum side_name name, enum bench_goal goal, double limit)
{
	double ours[PASSES - 1], theirs[PASSES - 1];

	memcpy(ours, side[name].out + 1, sizeof(ours));
	memcpy(theirs, side[RAM].out + 1, sizeof(theirs));
	bench_report(what, "GiB/s", ours, theirs, PASSES - 1, goal, limit);
}

int main(void)
{
	init(&side[RAM], ram());
	init(&side[BY_ADDRESS], pmem("memfd:bench", 2 * BYTES));
	init(&side[BY_COPY], pmem_old());
	bench_shuffle(order, PAGES, 2017);
	for (unsigned int pass = 0; pass < PASSES; pass++)
		one_pass(pass);
	report_fault("one random fault on a pmem device by address, beside the ram device: p50",
		     BY_ADDRESS, BENCH_AT_MOST, 1.1);
	report_fault("  by copy", BY_COPY, BENCH_NO_GOAL, 0);
	report_out("64 MiB out to a pmem device by address, beside the ram device", BY_ADDRESS,
		   BENCH_AT_LEAST, 0.9);
	report_out("  by copy", BY_COPY, BENCH_NO_GOAL, 0);
	for (unsigned int k = 0; k < SIDES; k++)
		if (zd_mm_close(side[k].mm) || zd_device_unregister(side[k].dev))
			bench_die("can't close");
	return 0;
}
