/* SPDX-License-Identifier: MIT */
/* What the unit tests share. */
#ifndef ZD_UNIT_TEST_H
#define ZD_UNIT_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Runs @fn in a child, where it must log @text, and then abort or, without @abort, return. */
static inline bool ends_with(void (*fn)(void), const char *text, bool abort)
{
	char out[2048];
	size_t len = 0;
	ssize_t n;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit no_core = { 0, 0 };

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		alarm(20);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		fn();
		_exit(0);
	}
	close(fds[1]);
	while (len < sizeof(out) - 1 && (n = read(fds[0], out + len, sizeof(out) - 1 - len)) > 0)
		len += n;
	out[len] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if ((abort ? WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT : !status) &&
	    strstr(out, text))
		return true;
	fprintf(stderr, "expected %s with \"%s\"; status %#x, stderr: %s\n",
		abort ? "an abort" : "a return", text, status, out);
	return false;
}

static inline bool aborts_with(void (*fn)(void), const char *text)
{
	return ends_with(fn, text, true);
}

/* @fn logs @text and returns: its own assertions hold. */
static inline bool warns_with(void (*fn)(void), const char *text)
{
	return ends_with(fn, text, false);
}

/* The seed: ZD_SEED, or the time; printed, so that a failure can be run again. */
static inline unsigned int test_seed(void)
{
	const char *env = getenv("ZD_SEED");
	unsigned int seed = env ? strtoul(env, NULL, 0) : (unsigned int)time(NULL);

	printf("ZD_SEED=%u\n", seed);
	fflush(stdout);
	return seed;
}

static inline uint32_t test_rand(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static inline double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Resident bytes of this process now. */
static inline long rss(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
	fclose(f);
	return pages * 4096;
}

#endif
