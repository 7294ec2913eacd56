/* SPDX-License-Identifier: MIT */
/*
 * Forks while other threads are in the middle of everything: each keeps one of zonedev's
 * locks busy, and what it guards half changed.  A child, in which none of these threads is,
 * uses all of it and ends by exit().
 *
 * Broken looks like: a child that doesn't end (it waits for a thread that isn't there), one
 * that dies, or one that finds what a lost thread has left half done: a wrong sink, a branch
 * that doesn't follow its key, descriptors that aren't zero, a block that is used twice.
 *
 * ZD_FORKS: how many (10000 for the long form); ZD_SEED.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <zonedev.h>
#include <zonedev/devm.h>
#include <zonedev/log.h>
#include <zonedev/static_key.h>

#include "base/alloc.h"
#include "base/fault_guard.h"
#include "base/lock.h"
#include "base/own.h"

#define FORKS	400
#define BOUND_S	60	/* for one child, on a machine that is busy */

ZD_DEFINE_STATIC_KEY(key);

static bool stop;
static struct zd_pagemap inherited = { .type = ZD_MEMORY_GENERIC, .nr_pages = 512 };
static struct zd_devm devm;
static uint32_t seed;

static struct shared {
	uint64_t forks, lost[8];	/* forks with a lock held; by what was found so */
	char said[200];
} * shared;

static bool stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static uint32_t rnd(uint32_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 17;
	*s ^= *s << 5;
	return *s;
}

__attribute__((noinline)) static bool branch(void)
{
	return zd_static_branch_unlikely(key);
}

/* --- what the threads do --- */

typedef void *(work_fn)(void *arg);

struct worker {
	pthread_t thread;
	work_fn *work;
	void *arg;
};

/* Behind the forking thread and its children, which would wait for ever so long. */
static void *worker(void *arg)
{
	struct worker *w = arg;

	setpriority(PRIO_PROCESS, gettid(), 19);
	return w->work(w->arg);
}

static void *toggle(void *arg)
{
	while (!stopped()) {
		if (zd_static_branch_inc(&key) || zd_static_branch_dec(&key))
			abort();
	}
	return arg;
}

static void *map(void *arg)
{
	while (!stopped()) {
		struct zd_pagemap m[20];

		for (int i = 0; i < 20; i++) {	/* more than the tables have room for at first */
			m[i] = (struct zd_pagemap){ .type = ZD_MEMORY_GENERIC, .nr_pages = 600 };
			if (zd_memremap_pages(&m[i]))
				abort();
			zd_page_set_private(zd_pfn_to_page(m[i].pfn + 7), 0x77);
		}
		for (int i = 0; i < 20; i++)
			if (zd_memunmap_pages(&m[i]))
				abort();
	}
	return arg;
}

static void *look_up(void *arg)
{
	while (!stopped()) {
		struct zd_pagemap *p = zd_get_dev_pagemap(inherited.pfn);

		if (!p)
			abort();
		zd_put_dev_pagemap(p);
	}
	return arg;
}

static void sink_a(enum zd_log_level level, const char *line, void *ctx)
{
	(void)level;
	(void)line;
	if (ctx != (void *)0xa)
		abort();
}

static void sink_b(enum zd_log_level level, const char *line, void *ctx)
{
	(void)level;
	(void)line;
	if (ctx != (void *)0xb)
		abort();
}

static void *log_lines(void *arg)
{
	while (!stopped()) {
		zd_set_log(sink_a, (void *)0xa);
		zd_log(ZD_LOG_INFO, "to a");
		zd_set_log(sink_b, (void *)0xb);
	}
	return arg;
}

static void *allocate(void *arg)
{
	uint32_t s = seed | 1;

	while (!stopped()) {
		void *p[32];

		for (int i = 0; i < 32; i++) {
			p[i] = zd_alloc(1u << rnd(&s) % 18);	/* also such that are mapped */
			if (!p[i])
				abort();
		}
		for (int i = 0; i < 32; i++)
			zd_free(p[i]);
	}
	return arg;
}

static void nothing(void *data)
{
	(void)data;
}

static void *add_actions(void *arg)
{
	while (!stopped()) {
		if (zd_devm_add_action(&devm, nothing, &devm))
			abort();
		zd_devm_release_action(&devm, nothing, &devm);
	}
	return arg;
}

static void *switch_modes(void *arg)
{
	struct zd_percpu_ref *ref = arg;

	while (!stopped()) {
		zd_percpu_ref_switch_to_atomic_sync(ref);
		zd_percpu_ref_switch_to_percpu(ref);
	}
	return arg;
}

static void *set_handlers(void *arg)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	while (!stopped()) {
		sigaction(SIGBUS, &dfl, NULL);
		if (zd_fault_guard_init())
			abort();
	}
	return arg;
}

/* --- what a child does --- */

static void touch_middle(void *addr)
{
	*(volatile char *)addr = 1;
}

#define MUST(what, ...)								\
	do {									\
		if (!(what)) {							\
			snprintf(shared->said, sizeof(shared->said), "line %d: %s (errno %d)", \
				 __LINE__, #what, errno);			\
			_exit(1);						\
		}								\
	} while (0)

static void child_maps(void)
{
	struct zd_pagemap m[40];
	struct zd_page *page;

	for (int i = 0; i < 40; i++) {
		m[i] = (struct zd_pagemap){ .type = ZD_MEMORY_GENERIC, .nr_pages = 700 };
		MUST(!zd_memremap_pages(&m[i]));
		page = zd_pfn_to_page(m[i].pfn);
		for (int k = 0; k < 700; k += 7)
			MUST(!page[k].refcount && !page[k].pgmap_id && !page[k].word);
		MUST(!zd_page_init(page) && zd_page_pagemap(page) == &m[i]);
		zd_put_page(page);
	}
	MUST(zd_get_dev_pagemap(inherited.pfn) == &inherited);
	zd_put_dev_pagemap(&inherited);
	for (int i = 0; i < 40; i++)
		MUST(!zd_memunmap_pages(&m[i]));
}

static void child_allocates(void)
{
	static void *p[200];
	struct zd_own_range own[64];
	unsigned int n;

	for (unsigned int i = 0; i < 200; i++) {
		size_t len = 1u << i % 17;

		p[i] = zd_alloc(len);
		MUST(p[i] && zd_addr_is_own(p[i]));
		for (size_t k = 0; k < len; k += 32)	/* zero: no other thread has the block */
			MUST(!((char *)p[i])[k]);
		memset(p[i], 0x5a, len);
	}
	for (unsigned int i = 0; i < 200; i++)
		zd_free(p[i]);
	n = zd_own_ranges(own, 64);
	for (unsigned int i = 1; i < n && i < 64; i++)
		MUST((char *)own[i - 1].start + own[i - 1].len <= (char *)own[i].start);
}

static void child_switches(void)
{
	bool was;

	MUST(!zd_static_branch_inc(&key));
	MUST(branch());
	was = zd_static_key_enabled(&key);
	MUST(was && !zd_static_branch_dec(&key));
	MUST(branch() == zd_static_key_enabled(&key));
}

static void child(struct zd_percpu_ref *ref, char *bad)
{
	uint64_t lost = zd_locks_lost;
	struct zd_percpu_ref own;
	uintptr_t at;

	zd_log(ZD_LOG_INFO, "from a child");
	child_switches();
	shared->lost[0] += zd_locks_lost - lost;
	lost = zd_locks_lost;
	child_maps();
	shared->lost[1] += zd_locks_lost - lost;
	lost = zd_locks_lost;
	child_allocates();
	shared->lost[2] += zd_locks_lost - lost;
	lost = zd_locks_lost;
	MUST(!zd_devm_add_action(&devm, nothing, NULL));
	MUST(zd_devm_release_all(&devm) >= 1);
	shared->lost[3] += zd_locks_lost - lost;
	lost = zd_locks_lost;
	zd_percpu_ref_switch_to_atomic_sync(ref);
	MUST(!zd_percpu_ref_init(&own, (void (*)(struct zd_percpu_ref *))nothing, 0));
	zd_percpu_ref_kill(&own);
	shared->lost[4] += zd_locks_lost - lost;
	lost = zd_locks_lost;
	MUST(!zd_fault_guard_init());
	MUST(zd_fault_guard_call(touch_middle, bad, bad, 4096, &at) == -EFAULT);
	shared->lost[5] += zd_locks_lost - lost;
	lost = zd_locks_lost;
	zd_set_log(sink_a, (void *)0xa);
	zd_log(ZD_LOG_INFO, "the last");
	shared->lost[6] += zd_locks_lost - lost;
	exit(0);
}

/* --- */

static int wait_for(pid_t pid)
{
	struct timespec pause = { .tv_nsec = 200000 };
	time_t end = time(NULL) + BOUND_S;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (time(NULL) > end) {
			fprintf(stderr, "a child hangs\n");
			kill(pid, SIGABRT);
			waitpid(pid, &status, 0);
			return status ? status : -1;
		}
		nanosleep(&pause, NULL);
	}
	return status;
}

static char *make_bad(void)
{
	FILE *f = tmpfile();
	char *p;

	if (!f || ftruncate(fileno(f), 4096))
		return NULL;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);
	return p == MAP_FAILED || ftruncate(fileno(f), 0) ? NULL : p;
}

static void never(struct zd_percpu_ref *ref)
{
	(void)ref;
	abort();
}

int main(void)
{
	static const char *const what[] = { "key", "map", "alloc", "devm", "ref", "guard", "log" };
	static work_fn *const works[] = {
		toggle, map, look_up, log_lines, allocate, add_actions, switch_modes, set_handlers,
	};
	enum { WORKS = sizeof(works) / sizeof(works[0]) };
	const char *env = getenv("ZD_FORKS"), *s = getenv("ZD_SEED");
	unsigned long forks = env ? strtoul(env, NULL, 0) : FORKS;
	struct zd_percpu_ref ref;
	struct worker workers[WORKS];
	char *bad = make_bad();
	uint32_t r;

	seed = s ? strtoul(s, NULL, 0) : (uint32_t)time(NULL);
	printf("ZD_SEED=%u\n", seed);
	fflush(stdout);
	r = seed | 1;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	zd_devm_init(&devm);
	if (!bad || shared == MAP_FAILED || zd_memremap_pages(&inherited) ||
	    zd_percpu_ref_init(&ref, never, 0) || zd_fault_guard_init())
		return 1;
	for (unsigned int i = 0; i < WORKS; i++) {
		workers[i] = (struct worker){ .work = works[i], .arg = &ref };
		if (pthread_create(&workers[i].thread, NULL, worker, &workers[i]))
			return 1;
	}
	for (unsigned long i = 0; i < forks; i++) {
		struct timespec pause = { .tv_nsec = rnd(&r) % 200000 };
		int status;
		pid_t pid;

		nanosleep(&pause, NULL);
		pid = fork();
		if (pid == 0)
			child(&ref, bad);
		status = pid < 0 ? -1 : wait_for(pid);
		if (status) {
			fprintf(stderr, "fork %lu: status %#x; %s\n", i, status, shared->said);
			return 1;
		}
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < WORKS; i++)
		pthread_join(workers[i].thread, NULL);
	printf("RESULT: %lu forks; locks found held by a lost thread:", forks);
	for (unsigned int i = 0; i < sizeof(what) / sizeof(what[0]); i++)
		printf(" %s %llu", what[i], (unsigned long long)shared->lost[i]);
	printf("\n");
	return 0;
}
