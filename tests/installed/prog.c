/* SPDX-License-Identifier: MIT */
/*
 * A program of somebody else's: C and C++.  It makes a device, takes a page of
 * it through its life, and takes the device away.  No privilege needed.
 */
#include <stdio.h>
#include <string.h>
#include <zonedev.h>

#define CHECK(cond)							\
	do {								\
		if (!(cond)) {						\
			fprintf(stderr, "prog.c:%d: %s\n", __LINE__, #cond); \
			return 1;					\
		}							\
	} while (0)

int main(int argc, char **argv)
{
	struct zd_device *dev;
	struct zd_pagemap *pgmap;
	struct zd_page *page;
	zd_pfn_t pfn;

	CHECK(argc == 2 && !strcmp(zd_version(), argv[1]));

	CHECK(zd_ram_device_create(1 << 20, &dev) == 0);
	CHECK(dev->nr_pages == (1 << 20) / ZD_PAGE_SIZE);
	CHECK(dev->ops->alloc_pages(dev, 1, &pfn) == 1);
	pgmap = zd_get_dev_pagemap(pfn);
	CHECK(pgmap == &dev->pgmap);
	zd_put_dev_pagemap(pgmap);

	page = zd_pfn_to_page(pfn);
	CHECK(zd_page_to_pfn(page) == pfn);
	CHECK(zd_page_count(page) == 0);
	CHECK(zd_page_init(page) == 0);
	zd_get_page(page);
	CHECK(zd_page_count(page) == 2);
	CHECK(zd_device_live_pages(dev) == 1);
	zd_put_page(page);
	zd_put_page(page);
	CHECK(zd_device_live_pages(dev) == 0);

	CHECK(zd_device_unregister(dev) == 0);
	CHECK(!zd_get_dev_pagemap(pfn));
	return 0;
}
