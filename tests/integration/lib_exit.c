/* SPDX-License-Identifier: MIT */
/* A program that ends with an mm open ends soon, whatever its threads do, and without
 * bringing everything home first. */
#include <sys/resource.h>

#include "tests/integration/lib_test.h"

#define CHUNK	256
#define N	(64 * CHUNK)	/* 64 MiB */

static struct zd_mm *mm;
static struct zd_device *dev;
static char *mem;

/* Far more on the device than the process ever had in RAM. */
static void big(void *arg)
{
	(void)arg;
	mm = open_mm();
	dev = file_device(N);
	mem = map(N);
	CHECK_EQ(zd_mm_register(mm, mem, N * PAGE), 0);
	for (size_t i = 0; i < N; i += CHUNK) {
		fill(mem + i * PAGE, CHUNK, 1);
		evict(mm, mem + i * PAGE, CHUNK, dev);
	}
	exit(0);
}

static void *evict_for_ever(void *arg)
{
	(void)arg;
	for (;;)
		zd_migrate_to_device(mm, mem, CHUNK * PAGE, dev, NULL);
	return NULL;
}

static void *touch_for_ever(void *arg)
{
	(void)arg;
	for (size_t i = 0;; i = (i + 7) % CHUNK)
		++*(volatile uint64_t *)(mem + i * PAGE);
	return NULL;
}

static void idle(void *arg)
{
	(void)arg;
	pause();
}

/* exit() while others evict and touch, with a child that shares the pages. */
static void busy(void *arg)
{
	pthread_t t;
	pid_t pid;

	mm = open_mm();
	dev = ram_device(4 * CHUNK);
	set_latency(dev, (uintptr_t)arg);
	mem = map(CHUNK);
	fill(mem, CHUNK, 1);
	CHECK_EQ(zd_mm_register(mm, mem, CHUNK * PAGE), 0);
	evict(mm, mem, CHUNK, dev);
	pid = child_start(idle, NULL);
	CHECK(!pthread_create(&t, NULL, evict_for_ever, NULL));
	CHECK(!pthread_create(&t, NULL, touch_for_ever, NULL));
	usleep(30000);
	kill(pid, SIGKILL);
	exit(0);
}

int main(void)
{
	struct rusage ru;
	int status;
	pid_t pid;

	status = child_status(child_start(big, NULL));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		return 77;
	CHECK_EQ(status, 0);
	CHECK(!getrusage(RUSAGE_CHILDREN, &ru));
	printf("peak %ld KiB\n", ru.ru_maxrss);
	if (!getenv("ZD_SANITIZER") || !strcmp(getenv("ZD_SANITIZER"), "plain"))
		CHECK(ru.ru_maxrss < (long)(N * PAGE >> 10) / 2);

	for (int i = 0; i < 6; i++) {
		pid = child_start(busy, (void *)(uintptr_t)(i % 2 * 300));
		CHECK_EQ(child_status(pid), 0);
	}
	return 0;
}
