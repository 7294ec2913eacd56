/* SPDX-License-Identifier: MIT */
/*
 * What the benchmarks share.  Each program measures two things by turns, round
 * after round, and hands the figures of the rounds to bench_report(): a ratio is
 * taken within each round, so that a machine that drifts moves both sides, and
 * the median of the ratios is the result.
 */
#ifndef ZD_BENCH_H
#define ZD_BENCH_H

#include <stddef.h>
#include <stdint.h>
#include "zonedev/mm.h"

#define BENCH_ROUNDS_MAX	4096

enum bench_goal {
	BENCH_NO_GOAL,		/* for information */
	BENCH_AT_MOST,		/* ratio = ours / theirs */
	BENCH_AT_LEAST,		/* ratio = ours / theirs */
	BENCH_SPEEDUP,		/* at least; ratio = theirs / ours; 0: for information */
};

uint64_t bench_now_ns(void);

/* The value below which the share @p of @v[0..nr) lies; sorts @v. */
double bench_percentile(double *v, size_t nr, double p);
double bench_median(double *v, size_t nr);
double bench_mean(const double *v, size_t nr);

/* A pseudo-random permutation of 0 .. nr - 1, the same for the same seed. */
void bench_shuffle(uint32_t *v, size_t nr, uint64_t seed);
uint64_t bench_random(uint64_t *state);

/* One line for bench/run.  @ours and @theirs: a figure a round.  The ratio is
 * the median of the rounds' ratios. */
void bench_report(const char *what, const char *unit, const double *ours, const double *theirs,
		  size_t nr, enum bench_goal goal, double limit);

/* A line for a figure that isn't compared: it must be at most @limit. */
void bench_report_limit(const char *what, const char *unit, double value, double limit);

/* A line for a figure that can't be had on this host. */
void bench_report_none(const char *what, const char *unit, const char *why);

/* Exit with 77 and the reason why the figure can't be had on this host. */
__attribute__((noreturn, format(printf, 1, 2))) void bench_skip(const char *fmt, ...);
/* Exit with 1: figures of a thing that doesn't work mean nothing. */
__attribute__((noreturn, format(printf, 1, 2))) void bench_die(const char *fmt, ...);

/*
 * Run @work(arg, i) in @nr threads at the same time, i from 0 on, each on a CPU of its own
 * (the calling thread is thread 0).  Returns the mean of the threads' times in ns.
 */
#define BENCH_THREADS_MAX	64
double bench_threads(unsigned int nr, void (*work)(void *arg, unsigned int i), void *arg);
/* CPUs that this process may use, at most BENCH_THREADS_MAX. */
unsigned int bench_cpus(void);

/* zd_mm_open(), or skip. */
struct zd_mm *bench_open_mm(unsigned int fault_around);

/* A private anonymous mapping, aligned to 2 MiB, of huge pages or of none, with
 * content that tells its pages apart; bench_check() dies if it has changed. */
char *bench_map(size_t bytes, int huge);
void bench_fill(char *mem, size_t bytes);
void bench_check(const char *mem, size_t bytes);

#endif
