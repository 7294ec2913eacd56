/* SPDX-License-Identifier: MIT */
/*
 * zd_percpu_ref get + put, against a bare atomic increment and decrement; then one
 * thread per CPU on the same reference, each against one thread alone; and what the
 * same threads cost each other on one shared atomic.
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "zonedev/percpu_ref.h"

#define PAIRS	200000
#define ROUNDS	301

static struct zd_percpu_ref ref;
static struct {
	uint64_t count;
} __attribute__((aligned(128))) shared;

static void release(struct zd_percpu_ref *r)
{
	(void)r;
}

/* Functions of their own, with aligned loops, so that neither is luckier than the other. */
__attribute__((noinline, aligned(64))) static void get_put(void *arg, unsigned int i)
{
	(void)arg;
	(void)i;
	for (int n = 0; n < PAIRS; n++) {
		zd_percpu_ref_get(&ref);
		zd_percpu_ref_put(&ref);
	}
}

__attribute__((noinline, aligned(64))) static void bare(void *arg, unsigned int i)
{
	(void)arg;
	(void)i;
	for (int n = 0; n < PAIRS; n++) {
		__atomic_add_fetch(&shared.count, 1, __ATOMIC_RELAXED);
		__atomic_sub_fetch(&shared.count, 1, __ATOMIC_RELEASE);
	}
}

static double pair_ns(unsigned int nr, void (*work)(void *arg, unsigned int i))
{
	return bench_threads(nr, work, NULL) / PAIRS;
}

int main(void)
{
	static double one[ROUNDS], all[ROUNDS], bare_one[ROUNDS], bare_all[ROUNDS];
	unsigned int cpus = bench_cpus();
	char what[96];
	int rc = zd_percpu_ref_init(&ref, release, 0);

	if (rc)
		bench_die("zd_percpu_ref_init: %s", strerror(-rc));
	for (int r = 0; r < ROUNDS; r++) {
		one[r] = pair_ns(1, get_put);
		bare_one[r] = pair_ns(1, bare);
		if (cpus < 2)
			continue;
		all[r] = pair_ns(cpus, get_put);
		bare_all[r] = pair_ns(cpus, bare);
	}
	if (zd_percpu_ref_read(&ref) != 1)
		bench_die("%lld references are left", (long long)zd_percpu_ref_read(&ref));
	bench_report("get + put of a percpu_ref, beside a bare atomic pair", "ns", one, bare_one,
		     ROUNDS, BENCH_AT_MOST, 1.5);
	if (cpus >= 2) {
		snprintf(what, sizeof(what), "  in %u threads on %u CPUs, beside one alone", cpus,
			 cpus);
		bench_report(what, "ns", all, one, ROUNDS, BENCH_AT_MOST, 1.15);
		bench_report("  one shared atomic, the same threads, beside one alone", "ns",
			     bare_all, bare_one, ROUNDS, BENCH_NO_GOAL, 0);
	}
	zd_percpu_ref_kill(&ref);
	zd_percpu_ref_exit(&ref);
	return 0;
}
