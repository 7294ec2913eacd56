/* SPDX-License-Identifier: MIT */
/*
 * Memory behind guard pages, and words that the kernel writes when a thread ends; for
 * run_guards.sh.
 *
 *	run_guards heap MIB LIMIT	a heap behind a guard page, without huge pages: it is
 *					held to LIMIT MiB
 *	run_guards blocks NR		NR blocks of 128 KiB, each behind a guard page
 *	run_guards robust		a thread ends with a robust mutex whose page has not
 *					been used for long
 *	run_guards stack		the same with a thread whose stack lies in the heap;
 *					the program waits for its end
 *	run_guards word		the word of a thread that was made by clone(), in a heap
 *	run_guards free			pages that are written again after MADV_FREE, without
 *					a fault, and then never used: they go out
 *
 * Exit status 1 and a line on stderr if something isn't as it would be natively.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096UL
#define BLOCK		(128UL * 1024)
#define BLOCKS_STAY	(20UL << 20)	/* at --ram 16M, and less than they have */
#define HOG_BYTES	(48UL << 20)
#define WAIT_S		60
#define STACK_BYTES	(256UL * 1024)

static void fail(const char *what)
{
	fprintf(stderr, "run_guards: %s\n", what);
	_exit(1);
}

static char *map(size_t len, int prot)
{
	char *p = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("out of memory");
	return p;
}

/* @len bytes behind a guard page, and one before the next mapping. */
static char *guarded(size_t len)
{
	char *p = map(len + 2 * PAGE, PROT_NONE);

	mprotect(p + PAGE, len, PROT_READ | PROT_WRITE);
	return p + PAGE;
}

static void check(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		if (p[i] != (char)(i / PAGE + 1))
			fail("wrong content");
}

static void fill(char *p, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		p[i] = i / PAGE + 1;
}

static size_t resident_bytes(void)
{
	unsigned long total, all, shared;
	FILE *f = fopen("/proc/self/statm", "r");
	int n = f ? fscanf(f, "%lu %lu %lu", &total, &all, &shared) : 0;

	if (n != 3)
		fail("no statm");
	fclose(f);
	return (all - shared) * PAGE;
}

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Sleep for a moment, but no longer than until @end. */
static void nap(time_t end, const char *what)
{
	if (now() > end)
		fail(what);
	usleep(1000);
}

/* Does the kernel watch the mapping of @p for missing pages? */
static int is_watched(const char *p)
{
	unsigned long start, end;
	char line[256];
	FILE *f = fopen("/proc/self/smaps", "r");
	int here = 0, watched = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= (unsigned long)p && (unsigned long)p < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			watched = strstr(line, " um") != NULL;
	}
	if (f)
		fclose(f);
	return watched;
}

static void heap(size_t mib, size_t limit)
{
	time_t end = now() + WAIT_S;
	char *p = guarded(mib << 20);

	madvise(p, mib << 20, MADV_NOHUGEPAGE);
	fill(p, mib << 20);
	while (resident_bytes() > limit << 20)
		nap(end, "it stays in RAM");
	check(p, mib << 20);
}

static void blocks(size_t nr)
{
	time_t end = now() + WAIT_S;
	char **p = calloc(nr, sizeof(*p));

	for (size_t i = 0; i < nr; i++) {
		p[i] = guarded(BLOCK);
		fill(p[i], BLOCK / 4);
	}
	/* otherwise a program that has ended before zonedev looks is all that was tested */
	while (resident_bytes() > BLOCKS_STAY)
		nap(end, "the blocks stay in RAM");
	for (size_t i = 0; i < nr; i++)
		check(p[i], BLOCK / 4);
}

static pthread_mutex_t *mutex;
static volatile int state;
static volatile pid_t holder_tid;

static void *holder(void *arg)
{
	pthread_mutex_lock(mutex);
	holder_tid = syscall(SYS_gettid);
	state = 1;
	while (state == 1)
		usleep(1000);
	if (arg)
		return NULL;
	syscall(SYS_exit, 0);	/* as if killed: libc does nothing at the end */
	return NULL;
}

static int is_here(const void *at)
{
	unsigned char in = 0;

	mincore((void *)((unsigned long)at & ~(PAGE - 1)), PAGE, &in);
	return in & 1;
}

/*
 * Wait until of the @len bytes at @p only @but pages are in RAM, among them those of @a and
 * @b.  These two may go out as long as zonedev has not seen what they are; then they come back.
 */
static void evict(char *p, size_t len, size_t but, const void *a, const void *b)
{
	unsigned char *in = malloc(len / PAGE);
	char *hog = map(HOG_BYTES, PROT_READ | PROT_WRITE);
	time_t end = now() + WAIT_S;
	size_t here = len / PAGE;

	/* then touch some more, to drive out the pages that were used last */
	for (int more = 0; more < 4; more += here <= but && is_here(a) && is_here(b)) {
		if (now() > end)
			fail(here <= but ? "what the kernel writes goes out" : "it doesn't go out");
		fill(hog, HOG_BYTES);
		here = 0;
		mincore(p, len, in);
		for (size_t i = 0; i < len / PAGE; i++)
			here += in[i] & 1;
	}
	munmap(hog, HOG_BYTES);
}

static void thread_end(int in_heap)
{
	size_t len = 4UL << 20;
	char *p = map(len, PROT_READ | PROT_WRITE);
	struct timespec until;
	pthread_mutexattr_t robust;
	pthread_attr_t attr;
	time_t end = now() + WAIT_S;
	pthread_t t;
	int rc;

	fill(p, len);
	mutex = (pthread_mutex_t *)(p + len / 2 + 64);
	pthread_mutexattr_init(&robust);
	pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(mutex, &robust);
	pthread_attr_init(&attr);
	/* in the middle of the heap: neither a guard below, nor the end above */
	if (in_heap && pthread_attr_setstack(&attr, p + len / 4, STACK_BYTES))
		fail("setstack");
	if (pthread_create(&t, &attr, holder, in_heap ? p : NULL))
		fail("no thread");
	while (!state)
		nap(end, "the thread doesn't start");
	/* the mutex, the descriptor and what lies around it stay; the holder's stack is
	 * used all the time */
	evict(p, len, in_heap ? 12 : 3, mutex, in_heap ? (void *)t : mutex);
	state = 2;
	while (!syscall(SYS_tgkill, getpid(), holder_tid, 0))
		nap(end + WAIT_S, "the thread doesn't end");
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	rc = pthread_mutex_timedlock(mutex, &until);
	if (rc != EOWNERDEAD)
		fail("the mutex doesn't tell that its owner has died");
	if (in_heap && pthread_timedjoin_np(t, NULL, &until))
		fail("the thread's end isn't heard of");
}

static int *word;
static volatile int ends;

/* The thread shares the TLS of the one that made it: no libc, no sanitizer. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static int by_hand(void *arg)
{
	struct timespec ms = { 0, 1000000 };

	while (!ends)
		syscall(SYS_nanosleep, &ms, 0);
	syscall(SYS_exit, 0);
	return arg != NULL;
}

static void thread_by_hand(void)
{
	static char stack[64 * 1024] __attribute__((aligned(16)));
	size_t len = 4UL << 20;
	char *p = map(len, PROT_READ | PROT_WRITE);
	struct timespec bound = { WAIT_S, 0 };

	fill(p, len);
	word = (int *)(p + len / 2 + 64);
	*word = 4242;
	if (clone(by_hand, stack + sizeof(stack),
		  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
			  CLONE_CHILD_CLEARTID,
		  NULL, NULL, NULL, word) < 0)
		fail("no thread");
	evict(p, len, 1, word, word);
	ends = 1;
	while (*(volatile int *)word == 4242)
		if (syscall(SYS_futex, word, FUTEX_WAIT, 4242, &bound, NULL, 0) &&
		    errno == ETIMEDOUT)
			fail("the word isn't cleared");
	if (*word)
		fail("the word has a value of its own");
}

static void freed(void)
{
	size_t len = 4UL << 20, hog_len = 14UL << 20, here = len / PAGE;
	char *p = map(len, PROT_READ | PROT_WRITE);
	char *hog = map(hog_len, PROT_READ | PROT_WRITE);
	unsigned char *in = malloc(len / PAGE);
	time_t end = now() + WAIT_S;
	volatile char sum = 0;

	fill(p, len);
	while (!is_watched(p))
		nap(end, "it isn't managed");
	madvise(p, len, MADV_FREE);
	fill(p, len);
	/* more than half of the limit; with the other area, more than the limit */
	fill(hog, hog_len);
	/* while the other area is in RAM there is room for a quarter of these pages */
	while (here > len / PAGE / 2) {
		if (now() > end)
			fail("what was freed and written stays");
		for (size_t i = 0; i < hog_len; i += PAGE)
			sum += hog[i];
		here = 0;
		mincore(p, len, in);
		for (size_t i = 0; i < len / PAGE; i++)
			here += in[i] & 1;
	}
	check(p, len);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	if (!strcmp(mode, "heap") && argc == 4)
		heap(n, strtoul(argv[3], NULL, 10));
	else if (!strcmp(mode, "blocks") && argc == 3)
		blocks(n);
	else if (!strcmp(mode, "free"))
		freed();
	else if (!strcmp(mode, "word"))
		thread_by_hand();
	else if (!strcmp(mode, "robust"))
		thread_end(0);
	else if (!strcmp(mode, "stack"))
		thread_end(1);
	else
		return 2;
	return 0;
}
