/* SPDX-License-Identifier: MIT */
/* Pagemaps beside threads: lookups, unmaps that wait, forks and cancellations in the middle. */
#include "unit_test.h"

#include <pthread.h>
#include <sys/time.h>
#include <zonedev/log.h>
#include <zonedev/pagemap.h>

#include "base/alloc.h"

static int freed;

static void page_free(struct zd_page *page)
{
	(void)page;
	__atomic_add_fetch(&freed, 1, __ATOMIC_RELAXED);
}

static const struct zd_pagemap_ops ops = { .size = sizeof(ops), .page_free = page_free };

static struct zd_pagemap make(uint64_t nr_pages)
{
	return (struct zd_pagemap){ .type = ZD_MEMORY_DEVICE_PRIVATE,
				    .ops = &ops,
				    .nr_pages = nr_pages };
}

static volatile sig_atomic_t in_child;
static int children, wrong_children;

static void fork_in_handler(int sig)
{
	int status;
	pid_t pid = fork();

	(void)sig;
	if (pid == 0) {
		in_child = 1;
		alarm(20);	/* the child may hang */
		return;
	}
	children++;
	if (waitpid(pid, &status, 0) != pid || status)
		wrong_children++;
}

/* A handler may fork inside a lookup: the child goes on with the lookup, and uses the rest. */
static void test_fork_in_handler(void **state)
{
	struct itimerval often = { { 0, 2000 }, { 0, 2000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct zd_pagemap m = make(600), n = make(600);

	(void)state;
	if (SANITIZED)		/* the sanitizer's own locks are in the way */
		skip();
	assert_int_equal(zd_memremap_pages(&m), 0);
	signal(SIGVTALRM, fork_in_handler);
	setitimer(ITIMER_VIRTUAL, &often, NULL);	/* of the time spent in lookups */
	while (children < 50 && !in_child) {
		if (zd_get_dev_pagemap(m.pfn + 5) != &m)
			_exit(9);
		zd_put_dev_pagemap(&m);
	}
	setitimer(ITIMER_VIRTUAL, &never, NULL);
	if (in_child) {
		bool bad = zd_memremap_pages(&n) || zd_memunmap_pages(&n);

		_exit(bad);
	}
	assert_int_equal(wrong_children, 0);
	assert_int_equal(zd_memunmap_pages(&m), 0);
	signal(SIGVTALRM, SIG_DFL);
}

static void *map_and_log(void *arg)
{
	for (;;) {
		struct zd_pagemap m = make(600);

		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
		zd_log(ZD_LOG_ERR, "%s", "");
		if (!zd_memremap_pages(&m))
			zd_memunmap_pages(&m);
		zd_memunmap_pages(&m);
		pthread_testcancel();
	}
	return arg;
}

/* A thread that is cancelled leaves no lock behind. */
static void test_cancel(void **state)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), err = dup(STDERR_FILENO);
	struct zd_pagemap m = make(600);

	(void)state;
	zd_set_log(NULL, NULL);
	dup2(null, STDERR_FILENO);
	for (int i = 0; i < 100; i++) {
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, map_and_log, NULL), 0);
		usleep(200 + i * 7);
		pthread_cancel(t);
		pthread_join(t, NULL);
		assert_int_equal(zd_memremap_pages(&m), 0);
		assert_int_equal(zd_memunmap_pages(&m), 0);
	}
	dup2(err, STDERR_FILENO);
	close(err);
	close(null);
}

/*
 * Race: map, use and unmap against lookups, in one thread each.  Broken: a
 * lookup that finds what is gone, a page_free after the unmap returned, a
 * count that doesn't come out, a crash in freed memory.
 */
#define ROUNDS (SANITIZED ? 100 : 400)

static struct {
	zd_pfn_t pfn;	/* where the map is, more or less */
	int stop;
	int gone;	/* set while it isn't mapped */
	uint64_t found;
} race;

static void race_free(struct zd_page *page)
{
	struct zd_pagemap *m = zd_page_pagemap(page);

	assert_non_null(m);
	assert_false(__atomic_load_n(&race.gone, __ATOMIC_ACQUIRE));
	__atomic_add_fetch(&freed, 1, __ATOMIC_RELAXED);
	__atomic_store_n((int *)m->owner, 0, __ATOMIC_RELEASE);	/* unclaimed */
}

static void *race_thread(void *arg)
{
	uint64_t found = 0;

	(void)arg;
	while (!__atomic_load_n(&race.stop, __ATOMIC_ACQUIRE)) {
		struct zd_pagemap *m = zd_get_dev_pagemap(__atomic_load_n(&race.pfn,
									  __ATOMIC_ACQUIRE));
		int no = 0;

		if (!m)
			continue;
		found++;
		assert_false(__atomic_load_n(&race.gone, __ATOMIC_ACQUIRE));
		if (__atomic_compare_exchange_n((int *)m->owner, &no, 1, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED)) {
			struct zd_page *page = zd_pfn_to_page(m->pfn);

			if (zd_page_init(page) == 0)
				zd_put_page(page);
			else
				__atomic_store_n((int *)m->owner, 0, __ATOMIC_RELEASE);
		}
		zd_put_dev_pagemap(m);
	}
	__atomic_add_fetch(&race.found, found, __ATOMIC_RELAXED);
	return NULL;
}

static void test_race(void **state)
{
	static const struct zd_pagemap_ops race_ops = { .size = sizeof(race_ops),
							.page_free = race_free };
	pthread_t t[2];
	uint32_t rnd = test_seed() | 1;

	(void)state;
	race.gone = 1;
	race.pfn = 512;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, race_thread, NULL), 0);
	for (int i = 0; i < ROUNDS; i++) {
		/* The pagemap's own memory comes and goes too. */
		struct zd_pagemap *m = zd_alloc(sizeof(*m));
		int *claim = zd_alloc(sizeof(*claim));

		*m = make(10);
		m->ops = &race_ops;
		m->owner = claim;
		__atomic_store_n(&race.gone, 0, __ATOMIC_RELEASE);
		assert_int_equal(zd_memremap_pages(m), 0);
		__atomic_store_n(&race.pfn, m->pfn, __ATOMIC_RELEASE);
		for (uint32_t spin = test_rand(&rnd) % 2000; spin; spin--)
			__atomic_load_n(&race.pfn, __ATOMIC_ACQUIRE);
		assert_int_equal(zd_memunmap_pages(m), 0);
		__atomic_store_n(&race.gone, 1, __ATOMIC_RELEASE);
		zd_free(m);
		zd_free(claim);
	}
	__atomic_store_n(&race.stop, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	printf("found %llu times, %d pages freed\n", (unsigned long long)race.found, freed);
}

/* Unmap waits for a holder in another thread, and a second unmap is told so. */
static struct zd_pagemap wait_map;
static int unmap_result = 1;

static void *unmap_thread(void *arg)
{
	(void)arg;
	__atomic_store_n(&unmap_result, zd_memunmap_pages(&wait_map), __ATOMIC_RELEASE);
	return NULL;
}

static void test_unmap_waits(void **state)
{
	struct zd_page *page;
	pthread_t t;

	(void)state;
	wait_map = make(10);
	assert_int_equal(zd_memremap_pages(&wait_map), 0);
	page = zd_pfn_to_page(wait_map.pfn);
	assert_int_equal(zd_page_init(page), 0);
	assert_int_equal(pthread_create(&t, NULL, unmap_thread, NULL), 0);
	for (;;) {	/* until the other thread has killed it */
		struct zd_pagemap *m = zd_get_dev_pagemap(wait_map.pfn);

		if (!m)
			break;
		zd_put_dev_pagemap(m);
	}
	assert_int_equal(zd_memunmap_pages(&wait_map), -EBUSY);
	assert_int_equal(__atomic_load_n(&unmap_result, __ATOMIC_ACQUIRE), 1);
	zd_put_page(page);
	pthread_join(t, NULL);
	assert_int_equal(unmap_result, 0);
	assert_int_equal(freed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fork_in_handler),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_unmap_waits),
		cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
