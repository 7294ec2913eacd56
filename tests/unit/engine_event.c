/* SPDX-License-Identifier: MIT */
/* Reading messages: an event is reached however many threads fault, though the
 * kernel gives us faults first, and faults fail until it has been read. */
#include "tests/unit/unit_test.h"

#include <pthread.h>

#include "engine/event.h"
#include "engine/exit.h"
#include "engine/mm.h"
#include "engine/server.h"
#include "base/uapi.h"
#include "space/uffd.h"

#define THREADS	8
#define PAGES	16
#define READS	500	/* one would do, were the event there from the start */

static struct zd_server server;
static struct zd_mm *mm;
static char *mem;
static unsigned int gone;	/* __atomic: threads that have got through */

static void *touch(void *page)
{
	(void)*(volatile char *)page;
	__atomic_add_fetch(&gone, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void *drop(void *page)
{
	assert_int_equal(madvise(page, 4096, MADV_DONTNEED), 0);
	__atomic_add_fetch(&gone, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Does a copy answer that an event is due? */
static bool due(void)
{
	ssize_t rc = zd_uffd_zeropage(zd_mm_uffd(mm), (uintptr_t)mem, 4096, false);

	return rc == -EAGAIN;
}

static void setup(void)
{
	static const struct zd_server_host host;
	int uffd = zd_uffd_open();

	assert_int_equal(zd_uffd_api(uffd, ZD_UFFD_FEATURES), 0);
	assert_int_equal(zd_server_init(&server, &host, NULL), 0);
	assert_int_equal(zd_mm_create(&server, uffd, NULL, &mm), 0);
	mem = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_int_equal(zd_mm_manage(mm, (uintptr_t)mem, (uintptr_t)mem + PAGES * 4096), 0);
}

static void teardown(void)
{
	zd_mm_destroy(mm);
	zd_server_destroy(&server);
	munmap(mem, PAGES * 4096);
}

static void event_behind_faults(void **state)
{
	pthread_t thread[THREADS + 1];
	unsigned int reads = 0;

	(void)state;
	setup();
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, touch, mem + (i + 1) * 4096), 0);
	assert_int_equal(pthread_create(&thread[THREADS], NULL, drop, mem + THREADS * 4096 + 4096),
			 0);
	for (double until = now_s() + 20; !due();) {
		assert_true(now_s() < until);
		usleep(1000);
	}
	/* each read has time enough for whom it wakes to fault again */
	while (!server.stats.c.events && reads++ < READS) {
		zd_mm_read(mm);
		usleep(1000);
	}
	assert_int_equal(server.stats.c.events, 1);
	for (double until = now_s() + 20; __atomic_load_n(&gone, __ATOMIC_ACQUIRE) < THREADS + 1;) {
		assert_true(now_s() < until);
		zd_mm_read(mm);
	}
	for (int i = 0; i <= THREADS; i++)
		pthread_join(thread[i], NULL);
	teardown();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(event_behind_faults),
	};
	int fd = zd_uffd_open(), rc = fd < 0 ? fd : zd_uffd_api(fd, ZD_UFFD_FEATURES);

	close(fd);
	if (rc) {
		printf("SKIP: needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
