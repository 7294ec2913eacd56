/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the library share: memory with a pattern that names each
 * word, devices, children, and waits that end.
 *
 * A test is a main() that returns 0; CHECK() ends the test with status 1.  In a forked
 * child CHECK() ends the child, which its parent sees (child_ok()).
 */
#ifndef LIB_TEST_H
#define LIB_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <zonedev.h>

#define PAGE		ZD_PAGE_SIZE
#define PATIENCE	20	/* seconds, after which a wait gives up */

#define CHECK(cond)								\
	do {									\
		if (!(cond)) {							\
			fprintf(stderr, "%s:%d: FAILED: %s (pid %d, errno %d)\n",	\
				__FILE__, __LINE__, #cond, getpid(), errno);	\
			_exit(1);						\
		}								\
	} while (0)

#define CHECK_EQ(a, b)								\
	do {									\
		long long a_ = (long long)(a), b_ = (long long)(b);		\
		if (a_ != b_) {							\
			fprintf(stderr, "%s:%d: FAILED: %s is %lld, not %s = %lld (pid %d)\n", \
				__FILE__, __LINE__, #a, a_, #b, b_, getpid());	\
			_exit(1);						\
		}								\
	} while (0)

#define WAIT_FOR(cond)								\
	do {									\
		double until_ = now() + PATIENCE;				\
		while (!(cond)) {						\
			if (now() > until_) {					\
				fprintf(stderr, "%s:%d: FAILED: waited in vain for %s\n", \
					__FILE__, __LINE__, #cond);		\
				_exit(1);					\
			}							\
			usleep(1000);						\
		}								\
	} while (0)

static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

__attribute__((noreturn)) static inline void skip(const char *why)
{
	printf("SKIP: %s\n", why);
	exit(77);
}

/* argv[1], ZD_SEED, or the time; printed, so that a failure can be run again. */
static inline uint64_t seed(int argc, char **argv)
{
	const char *env = getenv("ZD_SEED");
	uint64_t s = argc > 1 ? strtoull(argv[1], NULL, 0) :
		     env      ? strtoull(env, NULL, 0) :
				(uint64_t)time(NULL) << 16 ^ getpid();

	printf("seed %llu\n", (unsigned long long)s);
	fflush(stdout);
	return s ? s : 1;
}

/* A log sink: prints nothing, and counts in the unsigned int at @ctx, if there is one. */
static inline void quiet(enum zd_log_level level, const char *text, void *ctx)
{
	(void)level;
	(void)text;
	if (ctx)
		__atomic_add_fetch((unsigned int *)ctx, 1, __ATOMIC_RELAXED);
}

static inline uint64_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dull;
}

/* --- memory --- */

/* May a process fork while many of its threads are at work?  Not under TSan, whose fork()
 * holds locks of the runtime until the child is there.  The kernel makes no child until the
 * server has read the event, and the server may wait for a lock of zonedev whose holder, in
 * the runtime, waits for one of those.  Plain and ASan builds may. */
#ifdef __SANITIZE_THREAD__
#define MAY_FORK_BESIDE_THREADS false
#else
#define MAY_FORK_BESIDE_THREADS true
#endif

static inline char *map(size_t pages)
{
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* Every second word is the page's: then a device that compresses takes it, too. */
static inline uint64_t word(uint64_t tag, size_t page, size_t i)
{
	return ((tag << 40 | (uint64_t)page << 10 | (i & 1 ? 1 : i)) + 1) * 0x9e3779b97f4a7c15ull;
}

static inline void fill(void *mem, size_t pages, uint64_t tag)
{
	uint64_t *w = mem;

	for (size_t p = 0; p < pages; p++)
		for (size_t i = 0; i < PAGE / 8; i++)
			*w++ = word(tag, p, i);
}

/* The first page in [from, pages) that isn't as fill() left it, or @pages. */
static inline size_t bad_page(const void *mem, size_t from, size_t pages, uint64_t tag)
{
	for (size_t p = from; p < pages; p++) {
		const uint64_t *w = (const uint64_t *)((const char *)mem + p * PAGE);

		for (size_t i = 0; i < PAGE / 8; i++)
			if (w[i] != word(tag, p, i)) {
				fprintf(stderr, "page %zu word %zu: %#llx, not %#llx\n", p, i,
					(unsigned long long)w[i],
					(unsigned long long)word(tag, p, i));
				return p;
			}
	}
	return pages;
}

#define CHECK_FILLED(mem, pages, tag)	CHECK_EQ(bad_page(mem, 0, pages, tag), pages)

static inline bool is_zero(const void *mem, size_t bytes)
{
	const char *c = mem;

	for (size_t i = 0; i < bytes; i++)
		if (c[i])
			return false;
	return true;
}

/* Pages of the range that are in RAM (mincore doesn't fault them in). */
static inline size_t resident(void *mem, size_t pages)
{
	unsigned char *vec = malloc(pages);
	size_t nr = 0;

	CHECK(vec && !mincore(mem, pages * PAGE, vec));
	for (size_t i = 0; i < pages; i++)
		nr += vec[i] & 1;
	free(vec);
	return nr;
}

/* --- zonedev --- */

static inline struct zd_mm *open_mm(void)
{
	struct zd_mm *mm;
	int rc = zd_mm_open(NULL, &mm);

	if (rc == -EPERM || rc == -EOPNOTSUPP)
		skip("needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE");
	CHECK_EQ(rc, 0);
	return mm;
}

static inline struct zd_device *ram_device(size_t pages)
{
	struct zd_device *dev;

	CHECK_EQ(zd_ram_device_create(pages * PAGE, &dev), 0);
	return dev;
}

static inline struct zd_device *file_device(size_t pages)
{
	struct zd_device *dev;

	CHECK_EQ(zd_file_device_create(NULL, pages * PAGE, 0, &dev), 0);
	return dev;
}

static inline struct zd_device *lz4_device(size_t pages)
{
	struct zd_device *dev;

	CHECK_EQ(zd_lz4_device_create(pages * PAGE, 0, &dev), 0);
	return dev;
}

/* From now on each batch of the ram device takes this long. */
static inline void set_latency(struct zd_device *dev, unsigned int us)
{
	struct zd_ram_faults f = { .latency_us = us };

	CHECK_EQ(zd_ram_device_inject(dev, &f), 0);
}

static inline struct zd_mm_stats stats(struct zd_mm *mm)
{
	struct zd_mm_stats s;

	CHECK_EQ(zd_mm_get_stats(mm, &s), 0);
	return s;
}

/* A page that a fault brought home is free on the device a moment after the
 * thread goes on; but before any call on the mm returns. */
static inline void settle(struct zd_mm *mm)
{
	stats(mm);
}

/* Migrate @len bytes out, of which @want pages can go.  The kernel may take any page for
 * itself for a moment (when it compacts memory, say), which then looks pinned, or not there:
 * so try again. */
static inline void migrate_out(struct zd_mm *mm, void *mem, size_t len, size_t want,
			       struct zd_device *dev, struct zd_migrate_result *r)
{
	struct zd_migrate_result more;
	double until = now() + PATIENCE;

	CHECK_EQ(zd_migrate_to_device(mm, mem, len, dev, r), 0);
	while (r->moved < want && now() < until) {
		usleep(1000);
		CHECK_EQ(zd_migrate_to_device(mm, mem, len, dev, &more), 0);
		more.moved += r->moved;
		more.zero += r->zero;
		more.already = r->already;
		more.absent -= r->zero;
		*r = more;
	}
}

/* Migrate all @pages of @mem out. */
static inline void evict(struct zd_mm *mm, void *mem, size_t pages, struct zd_device *dev)
{
	struct zd_migrate_result r;

	migrate_out(mm, mem, pages * PAGE, pages, dev, &r);
	CHECK_EQ(r.moved, pages);
}

/* Managed memory, filled with @tag's pattern and out on the device. */
static inline char *evicted(struct zd_mm *mm, size_t pages, uint64_t tag, struct zd_device *dev)
{
	char *p = map(pages);

	fill(p, pages, tag);
	CHECK_EQ(zd_mm_register(mm, p, pages * PAGE), 0);
	evict(mm, p, pages, dev);
	return p;
}

static inline void close_mm(struct zd_mm *mm, struct zd_device *dev)
{
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(zd_device_live_pages(dev), 0);
	CHECK_EQ(zd_device_unregister(dev), 0);
}

/* --- children --- */

static inline pid_t child_start(void (*fn)(void *), void *arg)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		alarm(3 * PATIENCE);
		fn(arg);
		_exit(0);
	}
	return pid;
}

/* The child's wait status; it must end in time. */
static inline int child_status(pid_t pid)
{
	int status;

	WAIT_FOR(waitpid(pid, &status, WNOHANG) == pid);
	return status;
}

static inline void child_ok(pid_t pid)
{
	CHECK_EQ(child_status(pid), 0);
}

/* --- SIGBUS, one page at a time --- */

static __thread sigjmp_buf bus_jmp __attribute__((unused));
static __thread void *volatile bus_addr __attribute__((unused));

static inline void bus_handler(int sig, siginfo_t *info, void *ctx)
{
	(void)sig;
	(void)ctx;
	bus_addr = info->si_addr;
	siglongjmp(bus_jmp, 1);
}

static inline void catch_sigbus(void)
{
	struct sigaction sa = { .sa_sigaction = bus_handler, .sa_flags = SA_SIGINFO };

	CHECK(!sigaction(SIGBUS, &sa, NULL));
}

/* Does a read of @p raise SIGBUS, with an address in that page?  catch_sigbus() first. */
__attribute__((noinline, unused)) static bool raises_sigbus(const volatile char *p)
{
	if (sigsetjmp(bus_jmp, 1))
		return (uintptr_t)bus_addr / PAGE == (uintptr_t)p / PAGE;
	(void)*p;
	return false;
}

#endif
