/* SPDX-License-Identifier: MIT */
/*
 * Access to a mapping of zd_dax_mmap(), against a plain mmap() of the same memfd: the
 * same memory behind both.  Random reads of words, and copies of all of the memory.
 */
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "zonedev/dax.h"

#define BYTES	(64ul << 20)
#define WORDS	(BYTES / sizeof(uint64_t))
#define READS	10000
#define ROUNDS	2001	/* short turns: both sides meet the same machine */
#define COPIES	101

/* CPU time of this thread: nothing here waits, and other work on the CPU doesn't count. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* Each read's place depends on the word that the read before has found. */
__attribute__((noinline, aligned(64))) static uint64_t read_words(const uint64_t *mem, uint64_t at)
{
	for (int i = 0; i < READS; i++)
		at = (at * 0x9e3779b97f4a7c15ull + mem[at >> 8 & (WORDS - 1)]) ^ at >> 29;
	return at;
}

static double time_reads(const char *mem, uint64_t from, uint64_t *sum)
{
	uint64_t t0 = cpu_ns();

	*sum += read_words((const uint64_t *)mem, from);
	return (double)(cpu_ns() - t0) / READS;
}

static double time_copy(char *dst, const char *src)
{
	uint64_t t0 = cpu_ns();

	memcpy(dst, src, BYTES);
	return (double)(cpu_ns() - t0) / 1e6;
}

int main(void)
{
	static double ours[ROUNDS], theirs[ROUNDS];
	int fd = memfd_create("bench-dax", MFD_CLOEXEC);
	uint64_t rng = 1, sum = 0;
	struct zd_dax_opts opts = { .size = sizeof(opts), .align = 2 << 20 };
	struct zd_dax_mapping *map;
	struct zd_dax *dax;
	char *mem, *plain, *buf;
	int rc;

	if (fd < 0 || ftruncate(fd, BYTES))
		bench_skip("no memfd of %lu MiB", BYTES >> 20);
	rc = zd_dax_open_fd(fd, &opts, &dax);
	if (rc)
		bench_die("zd_dax_open_fd: %s", strerror(-rc));
	rc = zd_dax_mmap(dax, NULL, NULL, 0, BYTES, PROT_READ | PROT_WRITE, ZD_DAX_POPULATE, &map);
	if (rc)
		bench_die("zd_dax_mmap: %s", strerror(-rc));
	mem = zd_dax_mapping_addr(map);
	bench_fill(mem, BYTES);
	plain = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (plain == MAP_FAILED)
		bench_die("mmap failed");
	buf = bench_map(BYTES, 0);
	memset(buf, 1, BYTES);

	for (int r = 0; r < ROUNDS; r++) {
		/* Each side reads places of its own: the second would find the first's in the cache;
		 * and each is first every other round. */
		if (r % 2)
			ours[r] = time_reads(mem, bench_random(&rng), &sum);
		theirs[r] = time_reads(plain, bench_random(&rng), &sum);
		if (!(r % 2))
			ours[r] = time_reads(mem, bench_random(&rng), &sum);
	}
	if (!sum || memcmp(mem, plain, BYTES))
		bench_die("the two mappings differ");
	bench_report("read words of a device-dax mapping at random, beside plain mmap", "ns", ours,
		     theirs, ROUNDS, BENCH_AT_MOST, 1.02);
	for (int r = 0; r < COPIES; r++) {
		if (r % 2)
			ours[r] = time_copy(buf, mem);
		theirs[r] = time_copy(buf, plain);
		if (!(r % 2))
			ours[r] = time_copy(buf, mem);
	}
	bench_check(buf, BYTES);
	bench_report("copy 64 MiB out of a device-dax mapping, beside plain mmap", "ms", ours,
		     theirs, COPIES, BENCH_AT_MOST, 1.02);
	munmap(plain, BYTES);
	return zd_dax_munmap(map) || zd_dax_close(dax) ? 1 : 0;
}
