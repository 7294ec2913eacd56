/* SPDX-License-Identifier: MIT */
/*
 * Memory with known content, for the run_*.sh tests to run under zonedev.
 *
 *	run_mem check MIB [ROUNDS]	fill; check in order, then at random
 *					while changing it
 *	run_mem threads MIB NR		the same by NR threads at once
 *	run_mem leader MIB		the same by a thread that outlives the main
 *					thread
 *	run_mem thp MIB			the same in huge pages
 *	run_mem closed MIB		the same with every descriptor closed
 *	run_mem hold MIB		fill, say "ready PID ADDRESS"; for every line
 *					of input check and say "ok"; end with the input
 *	run_mem pair MIB		two processes that each do "check MIB"
 *	run_mem grow MIB		a heap that grows by 64 KiB each 2 ms, until it
 *					has MIB: say of how many mappings it consists
 *	run_mem swap MIB		"check MIB" while the kernel has swapped out some
 *					pages, and can't move some others (exit status
 *					77: the kernel doesn't swap)
 *
 * With RUN_MEM_RAM=MIB in the environment the program takes memory no faster than zonedev
 * makes room (run_room.h; of both processes together, for a pair).
 *
 * Exit status 1 and a line on stderr if anything reads back wrong.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run_room.h"

#define PAGE	4096UL
#define WORDS	(PAGE / sizeof(uint64_t))

struct area {
	uint64_t *mem;
	uint64_t pages;
	uint64_t seed;		/* page i holds words of seed + its generation */
	uint8_t *generation;
};

static uint64_t value(const struct area *a, uint64_t page, unsigned int word)
{
	uint64_t x = (a->seed + (page << 20) + a->generation[page] + 1) * 0x9e3779b97f4a7c15u;

	return x + word * 0xbf58476d1ce4e5b9u;
}

static void fill_page(struct area *a, uint64_t page)
{
	uint64_t *w = a->mem + page * WORDS, first = value(a, page, 0);

	for (unsigned int i = 0; i < WORDS; i++)
		w[i] = first + i * 0xbf58476d1ce4e5b9u;
}

static void check_page(const struct area *a, uint64_t page)
{
	const volatile uint64_t *w = a->mem + page * WORDS;

	for (unsigned int i = 0; i < WORDS; i++) {
		uint64_t got = w[i], again;

		if (got == value(a, page, i))
			continue;
		again = w[i];
		fprintf(stderr, "run_mem: %p page %llu word %u is %#llx (now %#llx), not %#llx\n",
			(void *)&w[i], (unsigned long long)page, i, (unsigned long long)got,
			(unsigned long long)again, (unsigned long long)value(a, page, i));
		_exit(1);
	}
}

#define PACE_PAGES	64

static uint64_t pace;		/* pages; 0: none */
static pid_t other;		/* the other one of a pair */

static void wait_for_room(uint64_t page)
{
	if (page % PACE_PAGES == 0)
		room_wait(pace, other);
}

static void fill(struct area *a)
{
	for (uint64_t i = 0; i < a->pages; i++) {
		fill_page(a, i);
		wait_for_room(i);
	}
}

static void check(const struct area *a)
{
	for (uint64_t i = 0; i < a->pages; i++) {
		check_page(a, i);
		wait_for_room(i);
	}
}

/* Check as many pages as there are, at random, and change every other one. */
static void check_random(struct area *a)
{
	uint64_t x = a->seed | 1;

	for (uint64_t n = 0; n < a->pages; n++) {
		uint64_t page;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		page = x % a->pages;
		check_page(a, page);
		if (x >> 40 & 1) {
			a->generation[page]++;
			fill_page(a, page);
		}
		wait_for_room(n);
	}
}

static void make(struct area *a, uint64_t pages, uint64_t seed, size_t align)
{
	char *p = mmap(NULL, pages * PAGE + align, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		perror("run_mem: mmap");
		_exit(1);
	}
	if (align)
		p = (char *)(((uintptr_t)p + align - 1) & ~(align - 1));
	a->mem = (uint64_t *)p;
	a->pages = pages;
	a->seed = seed;
	a->generation = calloc(pages, 1);
}

static void *thread(void *arg)
{
	struct area *a = arg;

	for (int round = 0; round < 2; round++) {
		check(a);
		check_random(a);
	}
	return NULL;
}

/* Threads that fill and check side by side; each has every NRth stretch of pages. */
static void *filler(void *arg)
{
	fill(arg);
	return thread(arg);
}

static void threads(uint64_t pages, int nr)
{
	pthread_t t[nr];
	struct area a[nr], whole;

	make(&whole, pages, 99, 0);
	for (int i = 0; i < nr; i++) {
		uint64_t from = pages * i / nr, to = pages * (i + 1) / nr;

		a[i] = (struct area){
			.mem = whole.mem + from * WORDS, .pages = to - from,
			.seed = 1000 + i, .generation = whole.generation + from,
		};
		if (pthread_create(&t[i], NULL, filler, &a[i]))
			_exit(1);
	}
	for (int i = 0; i < nr; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < nr; i++)
		check(&a[i]);
}

static void *survivor(void *arg)
{
	struct area a;

	pthread_join(*(pthread_t *)arg, NULL);
	make(&a, *((uint64_t *)arg + 1), 5, 0);
	filler(&a);
	_exit(0);
}

static void leader(uint64_t pages)
{
	static uint64_t arg[2];
	pthread_t t;

	arg[0] = pthread_self();
	arg[1] = pages;
	if (pthread_create(&t, NULL, survivor, arg))
		_exit(1);
	pthread_exit(NULL);
}

static void say(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(1);
}

static void hold(const struct area *a)
{
	char line[96];

	snprintf(line, sizeof(line), "ready %d %p\n", (int)getpid(), (void *)a->mem);
	say(line);
	while (read(0, line, sizeof(line)) > 0) {
		check(a);
		say("ok\n");
	}
}

/* Two processes, each of which knows the pid of the other. */
static void pair(char **argv)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	other = fork();
	if (other < 0)
		_exit(1);
	if (other)
		return;
	setenv("RUN_MEM_OTHER", pid, 1);
	argv[1] = "check";
	execv(argv[0], argv);
	_exit(1);
}

static void wait_for_other(void)
{
	int status;

	if (waitpid(other, &status, 0) != other || status) {
		fprintf(stderr, "run_mem: the other one ended with %#x\n", status);
		_exit(1);
	}
}

/* Of each 16 pages one is swapped out; the next but one was shared with a child that has
 * ended, and can't be moved until it is written again: that ends the MOVE of a run in its
 * middle. */
static void trouble(struct area *a)
{
	uint64_t swapped = 0, entry;
	int status, fd;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		_exit(1);
	for (uint64_t i = 0; i < a->pages; i++)
		if (i % 16 != 12)
			fill_page(a, i);
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	for (uint64_t i = 10; i < a->pages; i += 16) {
		char *page = (char *)(a->mem + i * WORDS);

		madvise(page, PAGE, MADV_PAGEOUT);
		if (pread(fd, &entry, 8, (uintptr_t)page / PAGE * 8) == 8)
			swapped += entry >> 62 & 1;
	}
	close(fd);
	if (swapped < a->pages / 16 / 2)
		_exit(77);
}

/* Another area takes the rest of RAM, so that the first must go out. */
static void swap(uint64_t pages)
{
	struct area a, more;

	make(&a, pages, 7, 0);
	for (uint64_t i = 0; i < a.pages; i++)
		fill_page(&a, i);
	trouble(&a);
	make(&more, pages, 8, 0);
	fill(&more);
	for (int round = 0; round < 2; round++) {
		check(&a);
		check_random(&a);
		check(&more);
	}
}

static int nr_heaps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[256];
	int nr = 0;

	while (f && fgets(line, sizeof(line), f))
		nr += strstr(line, "[heap]") != NULL;
	if (f)
		fclose(f);
	return nr;
}

static void grow(uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i += 16) {
		char *p = sbrk(16 * PAGE);

		if (p == (void *)-1)
			_exit(1);
		memset(p, 1, 16 * PAGE);
		usleep(2000);
	}
	printf("%d\n", nr_heaps());
}

int main(int argc, char **argv)
{
	const char *with = getenv("RUN_MEM_OTHER");
	const char *mode = argc > 2 ? argv[1] : "";
	uint64_t pages = argc > 2 ? strtoull(argv[2], NULL, 10) << 8 : 0;
	int nr = argc > 3 ? atoi(argv[3]) : 1;
	struct area a;

	if (!pages || !nr) {
		fprintf(stderr, "run_mem: bad usage\n");
		return 2;
	}
	pace = room_limit();
	other = with ? atoi(with) : 0;
	if (!strcmp(mode, "pair"))
		pair(argv);
	if (!strcmp(mode, "threads")) {
		threads(pages, nr);
		return 0;
	}
	if (!strcmp(mode, "grow")) {
		grow(pages);
		return 0;
	}
	if (!strcmp(mode, "swap")) {
		swap(pages);
		return 0;
	}
	if (!strcmp(mode, "leader"))
		leader(pages);
	if (!strcmp(mode, "closed") && close_range(0, ~0U, 0))
		return 1;
	make(&a, pages, 7, !strcmp(mode, "thp") ? 2UL << 20 : 0);
	if (!strcmp(mode, "thp") && madvise(a.mem, pages * PAGE, MADV_HUGEPAGE))
		return 1;
	fill(&a);
	if (!strcmp(mode, "hold")) {
		hold(&a);
		return 0;
	}
	for (int round = 0; round < nr; round++) {
		check(&a);
		check_random(&a);
	}
	check(&a);
	if (!strcmp(mode, "pair"))
		wait_for_other();
	return 0;
}
