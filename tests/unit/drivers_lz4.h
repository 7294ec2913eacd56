/* SPDX-License-Identifier: MIT */
/* What the tests of the lz4 device share: a device, a buffer a page, and what both hold. */
#ifndef TESTS_DRIVERS_LZ4_H
#define TESTS_DRIVERS_LZ4_H

#include "unit_test.h"

#include "../lib/page_contents.h"
#include "drivers/lz4/lz4.h"
#include "drivers_common.h"
#include "zonedev/lz4.h"

#define NR	16384
#define POOL	16384

static struct zd_device *dev;
static struct zd_io_page *pages;
static zd_pfn_t *pfns;
static char *mem;

static inline int setup_level(int level)
{
	pages = calloc(NR, sizeof(*pages));
	pfns = calloc(NR, sizeof(*pfns));
	mem = map_pages(NR);
	return zd_lz4_create(4 * NR, POOL, level, &dev);
}

static inline int setup(void **state)
{
	(void)state;
	return setup_level(ZD_LZ4_LEVEL_FAST);
}

static inline int teardown(void **state)
{
	(void)state;
	munmap(mem, NR * ZD_PAGE_SIZE);
	free(pages);
	free(pfns);
	return zd_device_unregister(dev);
}

static inline double stat_of(const char *name)
{
	struct zd_device_stat stats[32];
	int nr = dev->ops->stats(dev, stats, 32);

	for (int i = 0; i < nr; i++)
		if (!strcmp(stats[i].name, name))
			return stats[i].value;
	fail_msg("no statistic %s", name);
	return 0;
}

static inline void have_pages(unsigned int nr)
{
	assert_int_equal(dev->ops->alloc_pages(dev, nr, pfns), nr);
	set_pages(pages, pfns, nr, mem);
}

static inline void give_pages(unsigned int first, unsigned int nr)
{
	dev->ops->unalloc_pages(dev, nr, pfns + first);
}

static inline bool holds(const struct zd_io_page *page, enum contents kind, uint64_t tag)
{
	char want[ZD_PAGE_SIZE];

	contents_fill(want, kind, tag);
	return !memcmp(page->buf, want, ZD_PAGE_SIZE);
}

/* The worker makes the pool smaller by itself; how soon depends on the machine. */
static inline void wait_for(bool (*reached)(void))
{
	for (unsigned int ms = 0; !reached(); ms++) {
		assert_true(ms < PATIENCE_MS);
		usleep(1000);
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
