/* SPDX-License-Identifier: MIT */
/* Faults that the ram device can be told to have; what else it does is drivers_conformance.c's. */
#include "drivers_common.h"

static struct zd_device *ram_device(void)
{
	struct zd_device *dev;

	assert_int_equal(zd_ram_device_create(16 << 20, &dev), 0);
	return dev;
}

static void injected_errors_hit_their_pages(void **state)
{
	struct zd_device *dev = ram_device();
	struct zd_ram_faults faults = {
		.read_error = -EIO, .write_error = -ENOSPC, .first = 3, .nr = 2
	};
	struct zd_io_page pages[8];
	zd_pfn_t pfns[8];
	char *mem = map_pages(8);
	unsigned int i;

	(void)state;
	assert_int_equal(dev->ops->alloc_pages(dev, 8, pfns), 8);
	set_pages(pages, pfns, 8, mem);
	assert_non_null(dev->ops->direct_access(dev, pfns[0]));
	assert_int_equal(zd_ram_device_inject(dev, &faults), 0);
	assert_null(dev->ops->direct_access(dev, pfns[0]));
	do_io(dev, ZD_TO_DEVICE, pages, 8);
	for (i = 0; i < 8; i++)
		assert_int_equal(pages[i].error, i == 3 || i == 4 ? -ENOSPC : 0);
	do_io(dev, ZD_FROM_DEVICE, pages, 8);
	for (i = 0; i < 8; i++)
		assert_int_equal(pages[i].error, i == 3 || i == 4 ? -EIO : 0);
	faults.read_error = 5;
	assert_int_equal(zd_ram_device_inject(dev, &faults), -EINVAL);
	faults = (struct zd_ram_faults){ 0 };
	assert_int_equal(zd_ram_device_inject(dev, &faults), 0);
	assert_non_null(dev->ops->direct_access(dev, pfns[0]));
	dev->ops->unalloc_pages(dev, 8, pfns);
	munmap(mem, 8 * ZD_PAGE_SIZE);
	assert_int_equal(zd_device_unregister(dev), 0);
}

/* A slow batch is not done before its time, and event_fd says when it is. */
static void injected_latency_is_kept(void **state)
{
	struct zd_device *dev = ram_device();
	const struct zd_ram_faults slow = { .latency_us = 20000 };
	struct zd_device_io io[2] = { 0 };
	struct zd_io_page page = { .buf = map_pages(1) };
	struct timespec before, after;

	(void)state;
	assert_int_equal(dev->ops->alloc_pages(dev, 1, &page.pfn), 1);
	assert_int_equal(zd_ram_device_inject(dev, &slow), 0);
	clock_gettime(CLOCK_MONOTONIC, &before);
	start_io(dev, io, ZD_TO_DEVICE, &page, 1);
	assert_null(io->owner);
	assert_int_equal(dev->ops->reap(dev, false), 0);
	assert_null(io->owner);
	serve_until(dev, all_done, io);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec >=
		    20000000L);
	dev->ops->unalloc_pages(dev, 1, &page.pfn);
	munmap(page.buf, ZD_PAGE_SIZE);
	assert_int_equal(zd_device_unregister(dev), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(injected_errors_hit_their_pages),
		cmocka_unit_test(injected_latency_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
