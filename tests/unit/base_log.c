/* SPDX-License-Identifier: MIT */
#include "unit_test.h"

#include <zonedev.h>

#include "base/bug.h"

static char last[2048];
static int calls, last_level = -1;
static void *last_ctx;

static void sink(enum zd_log_level level, const char *msg, void *ctx)
{
	calls++;
	last_level = level;
	last_ctx = ctx;
	strcpy(last, msg);
	errno = EIO;	/* which the caller must not see */
}

static int setup(void **state)
{
	(void)state;
	calls = 0;
	last_level = -1;
	last[0] = '\0';
	zd_set_log(NULL, NULL);
	return 0;
}

/* What @fn writes to stderr, and in how many pieces at most: an O_DIRECT pipe
 * keeps each write apart. */
static char text[4096];

static int stderr_of(void (*fn)(void))
{
	int fds[2], saved, n = 0;
	ssize_t got;
	size_t len = 0;

	assert_int_equal(pipe2(fds, O_DIRECT | O_NONBLOCK), 0);
	saved = dup(STDERR_FILENO);
	dup2(fds[1], STDERR_FILENO);
	fn();
	dup2(saved, STDERR_FILENO);
	close(saved);
	while ((got = read(fds[0], text + len, sizeof(text) - 1 - len)) > 0) {
		len += got;
		n++;
	}
	text[len] = '\0';
	close(fds[0]);
	close(fds[1]);
	return n;
}

static void say_all(void)
{
	errno = E2BIG;
	zd_log(ZD_LOG_ERR, "error %d", 1);
	zd_log(ZD_LOG_WARN, "warning %s", "two");
	zd_log(ZD_LOG_INFO, "info");
	zd_log(ZD_LOG_DEBUG, "debug");
	assert_int_equal(errno, E2BIG);
}

static void test_default(void **state)
{
	(void)state;
	assert_int_equal(stderr_of(say_all), 2);
	assert_string_equal(text, "zonedev: error 1\nzonedev: warning two\n");
}

static void test_sink(void **state)
{
	(void)state;
	zd_set_log(sink, &calls);
	assert_int_equal(stderr_of(say_all), 0);
	assert_int_equal(calls, 4);
	assert_int_equal(last_level, ZD_LOG_DEBUG);
	assert_string_equal(last, "debug");
	assert_ptr_equal(last_ctx, &calls);
	zd_set_log(NULL, NULL);
	assert_int_equal(stderr_of(say_all), 2);
}

static void say_long(void)
{
	static char msg[5000];

	memset(msg, 'x', sizeof(msg) - 1);
	zd_log(ZD_LOG_ERR, "%s", msg);
}

static void test_long(void **state)
{
	(void)state;
	assert_int_equal(stderr_of(say_long), 1);
	assert_int_equal(strlen(text), 9 + 1023 + 1);
	assert_int_equal(text[9 + 1023], '\n');
	zd_set_log(sink, NULL);
	say_long();
	assert_int_equal(strlen(last), 1023);
}

static void warn(int i)
{
	zd_warn_once("once %d", i);
}

static void test_warn_once(void **state)
{
	(void)state;
	zd_set_log(sink, NULL);
	warn(1);
	warn(2);
	assert_int_equal(calls, 1);
	assert_string_equal(last, "once 1");
	assert_int_equal(last_level, ZD_LOG_WARN);
	zd_warn_once("another line");
	assert_int_equal(calls, 2);
}

static void bug(void)
{
	int n = 41;

	ZD_BUG_ON(n == 40, "not this");
	ZD_BUG_ON(n == 41, "n is %d", n);
}

static void bug_with_sink(void)
{
	zd_set_log(sink, NULL);
	bug();
}

static void test_bug(void **state)
{
	(void)state;
	assert_true(aborts_with(bug, "zonedev: BUG at "));
	assert_true(aborts_with(bug, "base_log.c:"));
	assert_true(aborts_with(bug, ": n == 41: n is 41\n"));
	assert_true(aborts_with(bug_with_sink, "n is 41\n"));
}

static void test_version(void **state)
{
	(void)state;
	assert_string_equal(zd_version(), ZD_VERSION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_default, setup),
		cmocka_unit_test_setup(test_sink, setup),
		cmocka_unit_test_setup(test_long, setup),
		cmocka_unit_test_setup(test_warn_once, setup),
		cmocka_unit_test_setup(test_bug, setup),
		cmocka_unit_test_setup(test_version, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
