/* SPDX-License-Identifier: MIT */
/*
 * Requests on a pmem region against memcpy() of the same bytes, from and to a plain
 * mapping of the same file, at the same random places; and what a BTT costs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "zonedev/pmem.h"

#define BYTES	(256UL << 20)
#define TURN	(32UL << 20)	/* bytes copied a turn */
#define ROUNDS	41
#define MOST	(1UL << 20)

static struct zd_pmem *raw, *btt;
static char *map, *buf;

static struct zd_pmem *open_region(const char *path, unsigned int flags)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr),
				     .flags = flags | ZD_PMEM_CREATE,
				     .bytes = BYTES };
	struct zd_pmem *pmem;
	char err[256];

	if (zd_pmem_open(path, &attr, &pmem, err, sizeof(err)))
		bench_die("%s", err);
	return pmem;
}

/* A region in memory, so that no disk's write-back is in the way; every page is there. */
static void setup(void)
{
	static char path[64];
	int fd = memfd_create("bench", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, BYTES))
		bench_die("memfd: %s", strerror(errno));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	raw = open_region(path, 0);
	btt = open_region("memfd:btt", ZD_PMEM_BTT);
	map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	buf = aligned_alloc(4096, MOST);
	if (map == MAP_FAILED || !buf)
		bench_die("no memory");
	for (size_t i = 0; i < BYTES / sizeof(uint64_t); i++)
		((uint64_t *)map)[i] = i;
	memset(buf, 1, MOST);
}

static double per_request(struct zd_pmem *pmem, enum zd_pmem_op op, size_t size, uint64_t seed)
{
	uint64_t places = BYTES / 2 / size, t = bench_now_ns();
	size_t turns = TURN / size;

	for (size_t i = 0; i < turns; i++)
		if (zd_pmem_rw(pmem, op, 0, bench_random(&seed) % places * (size / 512), size / 512,
			       buf))
			bench_die("a request failed");
	return (double)(bench_now_ns() - t) / turns;
}

static double per_memcpy(enum zd_pmem_op op, size_t size, uint64_t seed)
{
	uint64_t places = BYTES / 2 / size, t = bench_now_ns();
	size_t turns = TURN / size;

	for (size_t i = 0; i < turns; i++) {
		char *at = map + bench_random(&seed) % places * size;

		if (op == ZD_PMEM_READ)
			memcpy(buf, at, size);
		else
			memcpy(at, buf, size);
		__asm__ volatile("" ::: "memory");
	}
	return (double)(bench_now_ns() - t) / turns;
}

static void against_memcpy(enum zd_pmem_op op, size_t size)
{
	static double ours[ROUNDS], theirs[ROUNDS];
	char what[96];

	/* From now on both mappings have their page tables. */
	per_request(raw, op, MOST, 1);
	per_memcpy(op, MOST, 1);
	for (uint64_t r = 0; r < ROUNDS; r++) {
		/* Each side goes first every other round. */
		if (r % 2)
			theirs[r] = per_memcpy(op, size, r + 7);
		ours[r] = per_request(raw, op, size, r + 7);
		if (!(r % 2))
			theirs[r] = per_memcpy(op, size, r + 7);
	}
	/* The ratio is that of the times: 0.9 of the bandwidth is 1/0.9 of the time. */
	snprintf(what, sizeof(what), "pmem: %s of %zu KiB, against memcpy",
		 op == ZD_PMEM_READ ? "read" : "write", size >> 10);
	bench_report(what, "ns", ours, theirs, ROUNDS,
		     size >= 65536 ? BENCH_SPEEDUP : BENCH_NO_GOAL, 0.9);
}

static void against_raw(enum zd_pmem_op op, size_t size)
{
	static double ours[ROUNDS], theirs[ROUNDS];
	char what[96];

	for (uint64_t r = 0; r < ROUNDS; r++) {
		ours[r] = per_request(btt, op, size, r + 7);
		theirs[r] = per_request(raw, op, size, r + 7);
	}
	snprintf(what, sizeof(what), "pmem: %s of %zu KiB, btt=on against off",
		 op == ZD_PMEM_READ ? "read" : "write", size >> 10);
	bench_report(what, "ns", ours, theirs, ROUNDS, BENCH_NO_GOAL, 0);
}

int main(void)
{
	static const size_t sizes[] = { 4096, 65536, 262144, MOST };

	setup();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		against_memcpy(ZD_PMEM_READ, sizes[i]);
		against_memcpy(ZD_PMEM_WRITE, sizes[i]);
	}
	/* A block that was never written has no data to read. */
	for (uint64_t at = 0; at < BYTES / 2; at += MOST)
		if (zd_pmem_rw(btt, ZD_PMEM_WRITE, 0, at / 512, MOST / 512, buf))
			bench_die("a request failed");
	against_raw(ZD_PMEM_READ, 4096);
	against_raw(ZD_PMEM_WRITE, 4096);
	against_raw(ZD_PMEM_WRITE, 65536);
	zd_pmem_close(raw);
	zd_pmem_close(btt);
	return 0;
}
