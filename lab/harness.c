/* SPDX-License-Identifier: MIT */
/*
 * One program a protocol.  Prints "name value" lines: first what was tried and
 * what came of it, then what was measured.  --quick: few rounds; --try:
 * nothing is measured.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lab.h"

#define PAGES	512U
#define FAR	64U	/* pages this far apart share no cache line */

static void die(const char *what)
{
	fprintf(stderr, "lab: %s: %s\n", lab_title, what);
	exit(1);
}

static void add(void)
{
	if (lab_device_add(PAGES))
		die("no device");
}

static void use(unsigned int i)
{
	if (lab_device_use(i))
		die("can't use a page");
}

/* --- what is tried --- */

/* Two users share a page and both let go: is the driver told, and when? */
static void try_free(void)
{
	unsigned int before, after;

	add();
	use(0);
	lab_get(lab_device_page(0));
	lab_put(lab_device_page(0));
	before = lab_device_freed(0);
	lab_put(lab_device_page(0));
	after = lab_device_freed(0);
	printf("free_heard %s\n", before ? "too-early" : after == 1 ? "yes" : "never");
	if (!lab_device_remove(1000))
		die("a device that nobody uses doesn't go");
}

/* A lookup that comes late, with the address of a page that was freed since. */
static void try_late_lookup(void)
{
	unsigned int before;

	add();
	use(0);
	lab_put(lab_device_page(0));
	before = lab_device_freed(0);
	if (!lab_lookup(lab_device_page(0))) {
		printf("late_lookup refused\n");
	} else {
		/* The lookup's caller looks again, finds the mapping gone, and lets go. */
		lab_put(lab_device_page(0));
		printf("late_lookup %s\n", !before			? "taken" :
					   lab_device_freed(0) > before ? "taken,freed-twice" :
									  "taken,freed-once");
	}
	if (strcmp(lab_title, "v4.5 with generic GUP's lookup") && !lab_device_remove(1000))
		die("a device that nobody uses doesn't go");
}

/* The device is removed while a page of it is in use. */
static void try_remove(void)
{
	unsigned int heard;

	add();
	use(0);
	if (lab_device_remove(50)) {
		printf("remove_held gone\nheard_held -\n");
		return;
	}
	heard = lab_device_freed(0);
	printf("heard_held %s\n", heard ? "yes" : "no");
	lab_put(lab_device_page(0));
	printf("remove_held %s\n", lab_device_remove(1000) ? "waits" : "never-ends");
}

/* The same after a get_user_pages_fast() of that page, and its put. */
static void try_remove_gup(void)
{
	add();
	use(0);
	if (!lab_lookup(lab_device_page(0)))
		die("a live page can't be looked up");
	lab_put(lab_device_page(0));
	if (lab_device_remove(50)) {
		/* The user still has the page; its put would be a use after free. */
		printf("remove_gup gone\n");
		return;
	}
	lab_put(lab_device_page(0));
	printf("remove_gup %s\n", lab_device_remove(1000) ? "waits" : "never-ends");
}

static void try_wait_first(void)
{
	add();
	if (lab_device_remove_wait_first(200)) {
		printf("wait_first ends\n");
		return;
	}
	printf("wait_first never-ends\n");
	if (!lab_device_remove(1000))
		die("a device that nobody uses doesn't go");
}

/* --- what is measured --- */

/* No rounds: nothing is measured. */
static unsigned int pairs = 100000, rounds = 61;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

__attribute__((noinline, aligned(64))) static void get_put(lab_page *page, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		lab_get(page);
		lab_put(page);
	}
}

/* What get_user_pages_fast and the put at its end cost. */
__attribute__((noinline, aligned(64))) static void lookup_put(lab_page *page, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (!lab_lookup(page))
			die("a live page can't be looked up");
		lab_put(page);
	}
}

/* The same with what the lookup takes of the page itself, and nothing of its pagemap. */
__attribute__((noinline, aligned(64))) static void lookup_page_put(lab_page *page, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (!lab_lookup_page(page))
			die("a live page can't be looked up");
		lab_put(page);
	}
}

static uint32_t bare_count[2][64] __attribute__((aligned(64)));

__attribute__((noinline, aligned(64))) static void bare(uint32_t *count, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		__atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
		__atomic_sub_fetch(count, 1, __ATOMIC_ACQ_REL);
	}
}

struct worker {
	pthread_t thread;
	void (*loop)(lab_page *page, unsigned int n);	/* NULL: bare */
	lab_page *page;
	uint32_t *count;
	unsigned int *ready;
	unsigned int nr, cpu;
	double ns;
};

/* The @nth CPU that this process may use, if there are that many. */
static void stay_on(unsigned int nth)
{
	static cpu_set_t allowed;
	cpu_set_t one;

	if (!CPU_COUNT(&allowed) && sched_getaffinity(0, sizeof(allowed), &allowed))
		return;
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &allowed) && nth-- == 0) {
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			sched_setaffinity(0, sizeof(one), &one);
			return;
		}
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	double t;

	stay_on(w->cpu);
	/* Begin together. */
	__atomic_add_fetch(w->ready, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(w->ready, __ATOMIC_ACQUIRE) < w->nr)
		sched_yield();
	t = now();
	if (w->loop)
		w->loop(w->page, pairs);
	else
		bare(w->count, pairs);
	w->ns = (now() - t) / pairs;
	return NULL;
}

/* ns a pair of the slower of @nr threads. */
static double once(void (*loop)(lab_page *page, unsigned int n), lab_page *a, lab_page *b,
		   unsigned int nr)
{
	unsigned int ready = 0;
	struct worker w[2] = {
		{ .loop = loop, .page = a, .count = bare_count[0], .ready = &ready, .nr = nr },
		{ .loop = loop,
		  .page = b,
		  .count = bare_count[a == b ? 0 : 1],
		  .ready = &ready,
		  .nr = nr,
		  .cpu = 1 },
	};

	if (nr == 2 && pthread_create(&w[1].thread, NULL, work, &w[1]))
		die("no thread");
	work(&w[0]);
	if (nr == 2)
		pthread_join(w[1].thread, NULL);
	return nr == 2 && w[1].ns > w[0].ns ? w[1].ns : w[0].ns;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, unsigned int n)
{
	qsort(v, n, sizeof(*v), compare);
	return v[n / 2];
}

/* The machine drifts, so each round has its own bare pair. */
static void measure_loop(const char *name, void (*loop)(lab_page *page, unsigned int n),
			 lab_page *a, lab_page *b, unsigned int nr)
{
	double ns[64], floor[64], ratio[64];

	if (!rounds)
		return;
	for (unsigned int r = 0; r < rounds; r++) {
		ns[r] = once(loop, a, b, nr);
		floor[r] = once(NULL, a, b, nr);
		ratio[r] = ns[r] / floor[r];
	}
	printf("%s_ns %.2f\n", name, median(ns, rounds));
	printf("%s_bare_ns %.2f\n", name, median(floor, rounds));
	printf("%s_ratio %.3f\n", name, median(ratio, rounds));
}

static void measure(const char *name, lab_page *a, lab_page *b, unsigned int nr)
{
	measure_loop(name, get_put, a, b, nr);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--quick"))
		pairs = 5000, rounds = 5;
	else if (argc > 1 && !strcmp(argv[1], "--try"))
		rounds = 0;
	else if (argc > 1)
		return 2;

	stay_on(0);
	try_free();
	try_remove();
	try_wait_first();

	/* Before any device shows up, and with one there. */
	measure("ram_alone_nodev", lab_ram_page(0), NULL, 1);
	add();
	use(0);
	use(FAR);
	measure("ram_alone", lab_ram_page(0), NULL, 1);
	measure_loop("ram_lookup", lookup_put, lab_ram_page(0), NULL, 1);
	measure("dev_alone", lab_device_page(0), NULL, 1);
	measure("ram_two_own", lab_ram_page(0), lab_ram_page(1), 2);
	measure("dev_two_own", lab_device_page(0), lab_device_page(FAR), 2);
	measure("ram_two_same", lab_ram_page(0), lab_ram_page(0), 2);
	measure("dev_two_same", lab_device_page(0), lab_device_page(0), 2);
	lab_put(lab_device_page(0));
	lab_put(lab_device_page(FAR));
	if (!lab_device_remove(1000))
		die("a device that nobody uses doesn't go");

	/* Last: (b)'s counts are wrong afterwards. */
	try_remove_gup();
	try_late_lookup();
	if (rounds) {
		add();
		use(0);
		measure_loop("dev_lookup", lookup_put, lab_device_page(0), NULL, 1);
		measure_loop("dev_lookup_page", lookup_page_put, lab_device_page(0), NULL, 1);
	}
	return 0;
}
