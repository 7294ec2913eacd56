/* SPDX-License-Identifier: MIT */
/* The moment when a page is home: who reads its entry then isn't led to the
 * device any more; and its device page is put later, but not too late. */
#include "tests/unit/unit_test.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <zonedev.h>

#include "engine/changes.h"
#include "engine/delayed_put.h"
#include "engine/event.h"
#include "engine/evict.h"
#include "engine/exit.h"
#include "engine/mig.h"
#include "engine/mm.h"
#include "engine/out.h"
#include "engine/poll.h"
#include "engine/server.h"
#include "base/uapi.h"
#include "space/uffd.h"

#define PAGES	4096UL

/* Each thread looks as soon as the kernel lets it go on. */
static void entry_first(void **state)
{
	struct zd_mm_attr attr = { sizeof(attr), .fault_around = 1 };
	struct zd_migrate_result result;
	struct zd_device *dev;
	struct zd_mm *mm;
	char *mem = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);

	(void)state;
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_int_equal(zd_mm_open(&attr, &mm), 0);
	assert_int_equal(zd_ram_device_create(PAGES * 4096, &dev), 0);
	assert_int_equal(zd_mm_register(mm, mem, PAGES * 4096), 0);
	for (int round = 0, r = 0; round < 4; round++, r = 0) {
		for (size_t i = 0; i < PAGES; i++)
			mem[i * 4096] = 1 + round;
		/* again for what the kernel holds for a moment: it compacts memory, say */
		for (double until = now_s() + 20;
		     !r || (result.moved + result.already < PAGES && now_s() < until); r++)
			assert_int_equal(zd_migrate_to_device(mm, mem, PAGES * 4096, dev, &result),
					 0);
		assert_int_equal(result.moved + result.already, PAGES);
		for (size_t i = 0; i < PAGES; i++) {
			const char *at = mem + i * 4096;
			const zd_entry_t *entry = zd_table_lookup(&mm->table, (uintptr_t)at);

			assert_int_equal(*(volatile const char *)at, 1 + round);
			assert_int_not_equal(zd_entry_state(zd_entry_load(entry)), ZD_ENTRY_DEVICE);
		}
	}
	assert_int_equal(zd_mm_close(mm), 0);
	assert_int_equal(zd_device_unregister(dev), 0);
	munmap(mem, PAGES * 4096);
}

/* --- put later: a server without a thread, so that nothing happens by itself --- */

static struct zd_server server;
static struct zd_mm *mm;
static struct zd_device *dev;
static char *mem;	/* a page */

static int refuse_start(struct zd_mm *m, struct zd_mig *mig)
{
	(void)m;
	(void)mig;
	return -EAGAIN;
}

static void release(struct zd_mm *m)
{
	(void)m;
}

static const struct zd_mover_ops mover = { .start = refuse_start,
					   .release = release,
					   .destroy = release };

#define DEVICE	(ZD_DELAYED_PUTS + 8)
#define MEM	256

static void resync(struct zd_server *s)
{
	(void)s;
}

static int setup(void **state)
{
	static const struct zd_server_host host = { .resync = resync };
	int uffd = zd_uffd_open();

	(void)state;
	assert_int_equal(zd_uffd_api(uffd, ZD_UFFD_FEATURES), 0);
	assert_int_equal(zd_server_init(&server, &host, NULL), 0);
	assert_int_equal(zd_mm_create(&server, uffd, NULL, &mm), 0);
	mem = mmap(NULL, MEM * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_int_equal(zd_mm_manage(mm, (uintptr_t)mem, (uintptr_t)mem + MEM * 4096), 0);
	assert_int_equal(zd_ram_device_create(DEVICE * 4096, &dev), 0);
	assert_int_equal(zd_server_attach(&server, dev), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(zd_device_live_pages(dev), 0);
	zd_mm_destroy(mm);
	zd_server_destroy(&server);
	assert_int_equal(zd_device_unregister(dev), 0);
	munmap(mem, MEM * 4096);
	return 0;
}

/* @nr pages of the device come home. */
static void came_home(unsigned int nr)
{
	zd_pfn_t pfns[DEVICE];

	assert_int_equal(dev->ops->alloc_pages(dev, nr, pfns), nr);
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(zd_page_init(zd_pfn_to_page(pfns[i])), 0);
		zd_delay_put(&server, pfns[i]);
	}
}

static void ready(struct zd_source *source, uint32_t events)
{
	(void)source;
	(void)events;
	assert_int_equal(zd_device_live_pages(dev), 0);
	came_home(3);
}

/* Only so many wait; none while the server sleeps, none when a poll is over. */
static void put_in_time(void **state)
{
	struct zd_source source = { eventfd(1, EFD_CLOEXEC), ready };

	(void)state;
	assert_int_equal(zd_loop_add(&server.loop, &source), 0);
	came_home(ZD_DELAYED_PUTS);
	assert_int_equal(zd_device_live_pages(dev), ZD_DELAYED_PUTS);
	came_home(1);
	assert_int_equal(zd_device_live_pages(dev), 1);
	assert_int_equal(zd_server_poll(&server, -1), 1);
	assert_int_equal(zd_device_live_pages(dev), 0);
	zd_loop_remove(&server.loop, &source);
	close(source.fd);
}

/* A device is not full for pages that are home. */
static void not_full(void **state)
{
	struct zd_out_want want = { .dev = dev };
	uint64_t addr = (uintptr_t)mem;
	zd_pfn_t pfns[DEVICE];

	(void)state;
	mm->mover = &mover;
	assert_int_equal(dev->ops->alloc_pages(dev, DEVICE - 5, pfns), DEVICE - 5);
	came_home(5);
	assert_int_equal(zd_out_start(mm, &addr, 1, &want), 1);
	dev->ops->unalloc_pages(dev, DEVICE - 5, pfns);
}

/* A batch that the device has room for a part of, and that is refused at once: no page
 * is out of the queue for good. */
static void stays_in_line(void **state)
{
	zd_pfn_t pfns[DEVICE];
	unsigned int nr = 0;
	struct zd_run run;

	(void)state;
	mm->mover = &mover;
	server.track = true;
	assert_int_equal(zd_mm_lru_add(mm, (uintptr_t)mem, MEM, false), 0);
	assert_int_equal(dev->ops->alloc_pages(dev, DEVICE - 5, pfns), DEVICE - 5);
	server.limit = 200;
	server.resident = 300;
	zd_server_evict(&server);
	assert_int_equal(server.stats.c.refused_busy, 5);
	for (; zd_lru_peek(&server.lru, &run); zd_lru_pop(&server.lru))
		for (unsigned int i = 0; i < zd_run_nr(&run); i++)
			nr += zd_lru_in_run(&mm->table, zd_run_addr(&run) + i * 4096, &run);
	assert_int_equal(nr, MEM);
	dev->ops->unalloc_pages(dev, DEVICE - 5, pfns);
}

static void *drop(void *page)
{
	madvise(page, 4096, MADV_DONTNEED);
	return NULL;
}

/* An event's page is shared with one that is home: not any more. */
static void before_event(void **state)
{
	pthread_t thread;
	zd_pfn_t pfn;

	(void)state;
	came_home(1);
	pfn = server.delayed_puts[0];
	zd_get_page(zd_pfn_to_page(pfn));
	zd_mm_set_device(mm, (uintptr_t)mem, pfn);
	assert_int_equal(pthread_create(&thread, NULL, drop, mem), 0);
	for (double until = now_s() + 20; !server.stats.c.events;) {
		assert_true(now_s() < until);
		zd_mm_read(mm);
	}
	pthread_join(thread, NULL);
	assert_true(zd_mm_catch_up(mm));	/* and is followed */
	assert_int_equal(server.stats.c.pages_freed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entry_first),
		cmocka_unit_test_setup_teardown(put_in_time, setup, teardown),
		cmocka_unit_test_setup_teardown(not_full, setup, teardown),
		cmocka_unit_test_setup_teardown(stays_in_line, setup, teardown),
		cmocka_unit_test_setup_teardown(before_event, setup, teardown),
	};
	int fd = zd_uffd_open(), rc = fd < 0 ? fd : zd_uffd_api(fd, ZD_UFFD_FEATURES);

	close(fd);
	if (rc) {
		printf("SKIP: needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
