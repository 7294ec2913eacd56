/* SPDX-License-Identifier: MIT */
/* Built with ZD_PAGE_OWNER, and so is the library that it is linked to. */
#include "unit_test.h"

#include <pthread.h>
#include <sys/time.h>
#include <zonedev.h>

#include "base/alloc.h"

static const char *me = __FILE__;	/* less the way out of the build directory */
static struct zd_pagemap map;
static struct zd_page_owner o[64];
static char logged[8][1100];
static unsigned int nr_logged;

static void page_free(struct zd_page *page)
{
	(void)page;
}

static void catch_log(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)ctx;
	if (level == ZD_LOG_WARN && nr_logged < 8)
		snprintf(logged[nr_logged++], sizeof(logged[0]), "%s", msg);
}

static int setup(void **state)
{
	static const struct zd_pagemap_ops ops = { .size = sizeof(ops), .page_free = page_free };

	(void)state;
	map = (struct zd_pagemap){ .type = ZD_MEMORY_DEVICE_PRIVATE,
				   .ops = &ops,
				   .nr_pages = 5000 };
	nr_logged = 0;
	zd_set_log(catch_log, NULL);
	return zd_memremap_pages(&map) || zd_page_owner_enable();
}

static int teardown(void **state)
{
	(void)state;
	/* bounded: after a failed check pages may be held */
	return zd_page_owner_disable() || zd_memunmap_pages_timeout(&map, 1000, NULL);
}

static struct zd_page *page_at(int i)
{
	return zd_pfn_to_page(map.pfn + i);
}

static long reported(void)
{
	memset(o, 0, sizeof(o));
	return zd_page_owner_report(&map, o, 64);
}

/* In elements that are shorter than ours, and longer, as an older and a newer program
 * have them. */
static void check_sized(void)
{
	struct {
		struct zd_page_owner s;
		uint64_t more;
	} longer[3];
	zd_pfn_t pfns[3] = { 0, 0, 42 };
	long nr = reported();

	assert_true(nr > 2);
	memset(longer, 0x5a, sizeof(longer));
	assert_int_equal(zd_page_owner_report_sized(&map, &longer[0].s, 2, sizeof(longer[0])), nr);
	assert_int_equal(zd_page_owner_report_sized(&map, (struct zd_page_owner *)pfns, 2,
						    sizeof(pfns[0])),
			 nr);
	for (int i = 0; i < 2; i++) {
		assert_memory_equal(&longer[i].s, &o[i], sizeof(o[i]));
		assert_int_equal(longer[i].more, 0);
		assert_int_equal(pfns[i], o[i].pfn);
	}
	assert_int_equal(longer[2].more, 0x5a5a5a5a5a5a5a5a);
	assert_int_equal(pfns[2], 42);
}

static void check(const struct zd_page_owner *got, int page, unsigned int line, uint32_t refs)
{
	assert_int_equal(got->pfn, map.pfn + page);
	assert_string_equal(got->file, me);
	assert_int_equal(got->line, line);
	assert_int_equal(got->refs, refs);
}

/* Each way of taking a reference has its line; the put of one removes it. */
static void test_each_way(void **state)
{
	unsigned int init, get, try, refs, hold;
	struct zd_pagemap *m;

	(void)state;
	assert_int_equal(reported(), 0);
	init = __LINE__ + 1;
	assert_int_equal(zd_page_init(page_at(7)), 0);
	zd_get_page(page_at(7)), get = __LINE__;
	assert_true(zd_try_get_page(page_at(7))), try = __LINE__;
	assert_true(zd_try_get_page_refs(page_at(7), ZD_PIN_BIAS)), refs = __LINE__;
	m = zd_get_dev_pagemap(map.pfn + 9), hold = __LINE__;
	assert_false(zd_try_get_page(page_at(8)));	/* free: nothing taken */
	assert_int_equal(zd_page_init(zd_pfn_to_page(map.pfn + 5000)), -ENODEV);

	assert_int_equal(reported(), 5);
	check(&o[0], 0, hold, 0);
	check(&o[1], 7, refs, ZD_PIN_BIAS);
	check(&o[2], 7, try, 1);
	check(&o[3], 7, get, 1);
	check(&o[4], 7, init, 1);
	for (int i = 0; i < 5; i++)
		assert_true(o[i].tid == gettid() && !o[i].gone);
	/* room for fewer: they are counted */
	assert_int_equal(zd_page_owner_report(&map, o, 1), 5);
	check_sized();

	zd_put_dev_pagemap(m);
	zd_put_page(page_at(7));		/* the last one taken */
	assert_int_equal(reported(), 3);
	check(&o[0], 7, refs, ZD_PIN_BIAS);
	check(&o[1], 7, get, 1);
	check(&o[2], 7, init, 1);
	zd_unpin_user_page(page_at(7));
	assert_int_equal(reported(), 2);
	zd_put_page(page_at(7));
	zd_put_page(page_at(7));
	assert_int_equal(reported(), 0);
}

/* Taken in one go, let go in parts; and the reverse. */
static void test_parts(void **state)
{
	(void)state;
	assert_int_equal(zd_page_init(page_at(0)), 0);
	assert_true(zd_try_get_page_refs(page_at(0), 16));
	for (int i = 0; i < 7; i++)
		zd_put_page_refs(page_at(0), 2);
	assert_int_equal(reported(), 2);
	assert_int_equal(o[0].refs, 2);
	assert_true(zd_try_get_page_refs(page_at(0), 6));
	zd_put_page_refs(page_at(0), 8);
	assert_int_equal(reported(), 1);
	assert_int_equal(o[0].refs, 1);
	/* a put of a reference that was taken before recording is no part of a pin */
	(zd_get_page)(page_at(0));
	assert_true(zd_try_get_page_refs(page_at(0), ZD_PIN_BIAS));
	zd_put_page(page_at(0));
	zd_put_page(page_at(0));
	assert_int_equal(reported(), 1);
	assert_int_equal(o[0].refs, ZD_PIN_BIAS);
	zd_unpin_user_page(page_at(0));
	assert_int_equal(zd_page_count(page_at(0)), 0);
	assert_int_equal(reported(), 0);
}

/* Code that doesn't record: what is left of a page's life goes with it. */
static void test_forgotten_when_freed(void **state)
{
	unsigned int line;

	(void)state;
	assert_int_equal(zd_page_init(page_at(0)), 0);
	zd_get_page(page_at(0));
	(zd_put_page)(page_at(0));
	assert_int_equal(reported(), 2);
	(zd_put_page)(page_at(0));
	assert_int_equal(zd_page_count(page_at(0)), 0);
	line = __LINE__ + 1;
	assert_int_equal(zd_page_init(page_at(0)), 0);
	assert_int_equal(reported(), 1);
	check(&o[0], 0, line, 1);
	zd_put_page(page_at(0));
	/* and so it is with a pagemap */
	(zd_put_dev_pagemap)(zd_get_dev_pagemap(map.pfn));
	assert_int_equal(reported(), 1);
	assert_int_equal(zd_memunmap_pages(&map), 0);
	assert_int_equal(zd_memremap_pages(&map), 0);
	assert_int_equal(map.pfn, 512);
	assert_int_equal(reported(), 0);
}

static void *in_thread(void *arg)
{
	void (*fn)(void) = *(void (**)(void))arg;

	fn();
	return NULL;
}

static void elsewhere(void (*fn)(void))
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, in_thread, &fn), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
}

static void take_here(void)
{
	zd_get_page(page_at(0));
}

static void take_there(void)
{
	zd_get_page(page_at(0));
}

static void put(void)
{
	zd_put_page(page_at(0));
}

/* Put by another thread than took it: known where all came from one line, told as
 * unknown where not, and known again when all are gone. */
static void test_other_threads(void **state)
{
	(void)state;
	assert_int_equal(zd_page_init(page_at(0)), 0);
	elsewhere(take_here);
	elsewhere(take_here);
	zd_put_page(page_at(0));	/* ours first: the init */
	assert_int_equal(reported(), 2);
	assert_int_equal(o[0].line, o[1].line);
	elsewhere(put);
	assert_int_equal(reported(), 1);
	assert_int_equal(o[0].gone, 0);

	elsewhere(take_there);
	elsewhere(take_there);
	elsewhere(put);
	assert_int_equal(reported(), 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(o[i].gone, 1);
	assert_int_equal(zd_memunmap_pages_timeout(&map, 0, NULL), -ETIMEDOUT);
	assert_int_equal(nr_logged, 2);
	assert_non_null(strstr(logged[0], "up to "));
	elsewhere(put);
	assert_int_equal(reported(), 3);
	assert_int_equal(o[0].gone, 2);
	/* which doesn't free it */
	assert_true(zd_try_get_page_refs(page_at(0), ZD_PIN_BIAS));
	elsewhere(put);
	assert_int_equal(reported(), 1);
	assert_int_equal(o[0].refs, ZD_PIN_BIAS);
	zd_unpin_user_page(page_at(0));
	assert_int_equal(zd_page_count(page_at(0)), 0);
}

/* What a removal that runs out of time says: a line a site, however many pages. */
static void test_removal_says(void **state)
{
	struct zd_pagemap *m = zd_get_dev_pagemap(map.pfn);
	unsigned int hold = __LINE__ - 1, many, one;
	struct zd_pagemap_holders h;
	char want[300];

	(void)state;
	many = __LINE__ + 2;
	for (int i = 100; i < 4100; i++)
		assert_int_equal(zd_page_init(page_at(i)), 0);
	assert_true(zd_try_get_page_refs(page_at(4000), ZD_PIN_BIAS)), one = __LINE__;

	assert_int_equal(zd_memunmap_pages_timeout(&map, 0, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_pages, 4000);
	assert_int_equal(h.nr_refs, 1);
	assert_int_equal(nr_logged, 3);
	snprintf(want, sizeof(want), "1 holds of the pagemap taken at %s:%u, ", me, hold);
	assert_non_null(strstr(logged[0], want));
	snprintf(want, sizeof(want),
		 "4000 references taken at %s:%u, the first by thread %d: pfn %#llx", me, many,
		 gettid(), (unsigned long long)map.pfn + 100);
	assert_non_null(strstr(logged[1], want));
	snprintf(want, sizeof(want), "1 pins taken at %s:%u, the first by thread %d: pfn %#llx", me,
		 one, gettid(), (unsigned long long)map.pfn + 4000);
	assert_non_null(strstr(logged[2], want));

	for (int i = 100; i < 4100; i++)
		zd_put_page(page_at(i));
	zd_put_dev_pagemap(m);
	assert_int_equal(zd_memunmap_pages_timeout(&map, 0, &h), -ETIMEDOUT);
	assert_int_equal(nr_logged, 4);
	zd_unpin_user_page(page_at(4000));
	assert_int_equal(zd_memunmap_pages_timeout(&map, 0, &h), 0);
	assert_int_equal(zd_memremap_pages(&map), 0);
}

static void test_on_and_off(void **state)
{
	(void)state;
	assert_int_equal(zd_page_init(page_at(0)), 0);
	assert_int_equal(zd_page_owner_enable(), 0);
	assert_int_equal(zd_page_owner_disable(), 0);
	assert_int_equal(reported(), 1);	/* they nest */
	assert_int_equal(zd_page_owner_disable(), 0);
	assert_false(zd_static_key_enabled(&zd_page_owner_key));
	assert_int_equal(reported(), 0);
	assert_int_equal(zd_page_owner_disable(), -EINVAL);
	zd_get_page(page_at(0));
	assert_int_equal(zd_page_owner_enable(), 0);
	assert_int_equal(reported(), 0);
	assert_int_equal(zd_memunmap_pages_timeout(&map, 0, NULL), -ETIMEDOUT);
	assert_int_equal(nr_logged, 1);
	assert_non_null(strstr(logged[0], "none of these was taken while"));
	/* those of before can be put */
	zd_put_page(page_at(0));
	zd_put_page(page_at(0));
}

static void test_child(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(zd_page_init(page_at(0)), 0);
	pid = fork();
	if (pid == 0) {
		if (reported() != 1 || o[0].tid != getppid())
			_exit(1);
		zd_get_page(page_at(0));
		if (reported() != 2 || o[0].tid != getpid())
			_exit(2);
		zd_put_page(page_at(0));
		_exit(reported() == 1 ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(reported(), 1);
	zd_put_page(page_at(0));
}

static volatile int handled;

static void get_and_put(int sig)
{
	(void)sig;
	zd_get_page(page_at(0));
	zd_put_page(page_at(0));
	handled++;
}

/* A get is allowed in a signal handler, whatever the handler interrupts. */
static void test_signal(void **state)
{
	struct itimerval often = { { 0, 150 }, { 0, 150 } }, never = { { 0, 0 }, { 0, 0 } };
	struct zd_pagemap other = { .type = ZD_MEMORY_GENERIC, .nr_pages = 10 };

	(void)state;
	assert_int_equal(zd_page_init(page_at(0)), 0);
	signal(SIGALRM, get_and_put);
	handled = 0;
	setitimer(ITIMER_REAL, &often, NULL);
	while (handled < 2000) {
		zd_free(zd_alloc(64));
		zd_get_page(page_at(0));
		zd_put_page(page_at(0));
		assert_int_equal(zd_memremap_pages(&other), 0);
		zd_log(ZD_LOG_INFO, "between");
		assert_int_equal(zd_memunmap_pages(&other), 0);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_DFL);
	assert_int_equal(zd_page_count(page_at(0)), 1);
	zd_put_page(page_at(0));
}

/* ZONEDEV_PAGE_OWNER: this program again, with it. */
static void test_environment(void **state)
{
	static const char *const env[][2] = { { "on", "1" }, { "off", "0" } };

	(void)state;
	for (int i = 0; i < 2; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			setenv("ZONEDEV_PAGE_OWNER", env[i][0], 1);
			execl("/proc/self/exe", "pages_page_owner", env[i][1], NULL);
			_exit(9);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

/* Race: threads take and let go of the same few pages, some of them for others.
 * Broken: a record left when all is put, a crash in a list. */
#define ROUNDS	(SANITIZED ? 3000 : 20000)

static void *race_thread(void *arg)
{
	uint32_t rnd = (uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct zd_page *page = page_at(test_rand(&rnd) % 3);

		switch (test_rand(&rnd) % 4) {
		case 0:
			zd_get_page(page);
			zd_get_page(page);
			zd_put_page(page);
			zd_put_page(page);
			break;
		case 1:
			assert_true(zd_try_get_page_refs(page, ZD_PIN_BIAS));
			zd_unpin_user_page(page);
			break;
		case 2:
			if (zd_try_get_page(page))
				zd_put_page(page);
			break;
		default:
			zd_page_owner_report(&map, NULL, 0);
		}
	}
	return NULL;
}

static void test_race(void **state)
{
	uint32_t seed = test_seed() | 1;
	pthread_t t[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(zd_page_init(page_at(i)), 0);
	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, race_thread,
						(void *)((seed ^ i << 20) | 1)),
				 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(reported(), 3);
	for (int i = 0; i < 3; i++)
		zd_put_page(page_at(i));
	assert_int_equal(reported(), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forgotten_when_freed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_removal_says, setup, teardown),
		cmocka_unit_test_setup_teardown(test_on_and_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_child, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_environment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_race, setup, teardown),
	};

	while (!strncmp(me, "../", 3))
		me += 3;
	if (argc > 1)
		return zd_static_key_enabled(&zd_page_owner_key) != atoi(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
