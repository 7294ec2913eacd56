/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench.h"

#define PAGE	4096UL
#define HUGE	(2UL << 20)

uint64_t bench_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_percentile(double *v, size_t nr, double p)
{
	qsort(v, nr, sizeof(*v), by_value);
	return v[(size_t)(p * (nr - 1) + 0.5)];
}

double bench_median(double *v, size_t nr)
{
	qsort(v, nr, sizeof(*v), by_value);
	return nr % 2 ? v[nr / 2] : (v[nr / 2 - 1] + v[nr / 2]) / 2;
}

double bench_mean(const double *v, size_t nr)
{
	double sum = 0;

	for (size_t i = 0; i < nr; i++)
		sum += v[i];
	return sum / nr;
}

uint64_t bench_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15);	/* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

void bench_shuffle(uint32_t *v, size_t nr, uint64_t seed)
{
	for (size_t i = 0; i < nr; i++)
		v[i] = i;
	for (size_t i = nr; i > 1; i--) {
		size_t j = bench_random(&seed) % i;
		uint32_t t = v[i - 1];

		v[i - 1] = v[j];
		v[j] = t;
	}
}

static double median_of(const double *v, size_t nr)
{
	double sorted[BENCH_ROUNDS_MAX];

	memcpy(sorted, v, nr * sizeof(*v));
	return bench_median(sorted, nr);
}

void bench_report(const char *what, const char *unit, const double *ours, const double *theirs,
		  size_t nr, enum bench_goal goal, double limit)
{
	static const char *const op[] = { "-", "<=", ">=", ">=" };
	double ratio[BENCH_ROUNDS_MAX], low, high, mid;

	if (!nr || nr > BENCH_ROUNDS_MAX)
		bench_die("%zu rounds", nr);
	for (size_t i = 0; i < nr; i++)
		ratio[i] = goal == BENCH_SPEEDUP ? theirs[i] / ours[i] : ours[i] / theirs[i];
	mid = bench_median(ratio, nr);
	low = bench_percentile(ratio, nr, 0.1);
	high = bench_percentile(ratio, nr, 0.9);
	printf("RESULT\t%s\t%s\t%.4g\t%.4g\t%.4f\t%.4f\t%.4f\t%s\t%g\n", what, unit,
	       median_of(ours, nr), median_of(theirs, nr), mid, low, high, limit ? op[goal] : "-",
	       limit);
	fflush(stdout);
}

void bench_report_limit(const char *what, const char *unit, double value, double limit)
{
	printf("RESULT\t%s\t%s\t%.4g\t-\t-\t-\t-\t<\t%g\n", what, unit, value, limit);
	fflush(stdout);
}

void bench_report_none(const char *what, const char *unit, const char *why)
{
	printf("RESULT\t%s\t%s\t-\tskipped\t-\t-\t-\t-\t0\t%s\n", what, unit, why);
	fflush(stdout);
}

void bench_skip(const char *fmt, ...)
{
	va_list ap;

	printf("SKIP: ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	exit(77);
}

void bench_die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

struct thread {
	pthread_t thread;
	void (*work)(void *arg, unsigned int i);
	void *arg;
	unsigned int i, *waiting;	/* how many threads haven't begun yet */
	double ns;
};

/* The CPUs that the process may use, as they were before any thread was bound. */
static const cpu_set_t *all_cpus(void)
{
	static cpu_set_t all;

	if (!CPU_COUNT(&all) && sched_getaffinity(0, sizeof(all), &all))
		bench_die("sched_getaffinity: %s", strerror(errno));
	return &all;
}

unsigned int bench_cpus(void)
{
	unsigned int n = CPU_COUNT(all_cpus());

	return n < BENCH_THREADS_MAX ? n : BENCH_THREADS_MAX;
}

/* Sets @one to the @i'th of these CPUs. */
static void cpu_of(unsigned int i, cpu_set_t *one)
{
	int cpu = -1;

	for (unsigned int n = 0; n <= i; n++)
		while (!CPU_ISSET(++cpu, all_cpus()))
			;
	CPU_ZERO(one);
	CPU_SET(cpu, one);
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	uint64_t t0;

	__atomic_sub_fetch(t->waiting, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(t->waiting, __ATOMIC_ACQUIRE))
		;
	t0 = bench_now_ns();
	t->work(t->arg, t->i);
	t->ns = bench_now_ns() - t0;
	return NULL;
}

double bench_threads(unsigned int nr, void (*work)(void *arg, unsigned int i), void *arg)
{
	struct thread t[BENCH_THREADS_MAX];
	unsigned int waiting = nr;
	pthread_attr_t attr;
	cpu_set_t cpu;
	double sum = 0;

	cpu_of(0, &cpu);
	pthread_setaffinity_np(pthread_self(), sizeof(cpu), &cpu);
	pthread_attr_init(&attr);
	for (unsigned int i = 0; i < nr; i++) {
		t[i] = (struct thread){ .work = work, .arg = arg, .i = i, .waiting = &waiting };
		/* Before the thread starts: this one will not let go of its CPU. */
		cpu_of(i, &cpu);
		pthread_attr_setaffinity_np(&attr, sizeof(cpu), &cpu);
		if (i && pthread_create(&t[i].thread, &attr, thread_main, &t[i]))
			bench_die("no thread on CPU %u", i);
	}
	pthread_attr_destroy(&attr);
	thread_main(&t[0]);
	for (unsigned int i = 0; i < nr; i++) {
		if (i)
			pthread_join(t[i].thread, NULL);
		sum += t[i].ns;
	}
	return sum / nr;
}

struct zd_mm *bench_open_mm(unsigned int fault_around)
{
	struct zd_mm_attr attr = { .size = sizeof(attr), .fault_around = fault_around };
	struct zd_mm *mm;
	int rc = zd_mm_open(&attr, &mm);

	if (rc == -EPERM || rc == -EOPNOTSUPP)
		bench_skip("zd_mm_open: %s", strerror(-rc));
	if (rc)
		bench_die("zd_mm_open: %s", strerror(-rc));
	return mm;
}

char *bench_map(size_t bytes, int huge)
{
	char *raw = mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	char *mem;

	if (raw == MAP_FAILED)
		bench_die("mmap of %zu bytes: %s", bytes, strerror(errno));
	mem = (char *)(((uintptr_t)raw + HUGE - 1) & ~(HUGE - 1));
	if (mem != raw)
		munmap(raw, mem - raw);
	munmap(mem + bytes, raw + HUGE - mem);
	if (madvise(mem, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		bench_skip("no transparent huge pages: %s", strerror(errno));
	return mem;
}

/* No two pages are equal, and no page is of zeros. */
static uint64_t mark(size_t page, size_t word)
{
	return (page + 1) * 0x9e3779b97f4a7c15 ^ word;
}

void bench_fill(char *mem, size_t bytes)
{
	for (size_t page = 0; page < bytes / PAGE; page++) {
		uint64_t *w = (uint64_t *)(mem + page * PAGE);

		for (size_t i = 0; i < PAGE / sizeof(*w); i++)
			w[i] = mark(page, i);
	}
}

void bench_check(const char *mem, size_t bytes)
{
	for (size_t page = 0; page < bytes / PAGE; page++) {
		const uint64_t *w = (const uint64_t *)(mem + page * PAGE);

		for (size_t i = 0; i < PAGE / sizeof(*w); i++)
			if (w[i] != mark(page, i))
				bench_die("page %zu, word %zu: %#llx is not what was written", page,
					  i, (unsigned long long)w[i]);
	}
}
