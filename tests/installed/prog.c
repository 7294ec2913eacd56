/* SPDX-License-Identifier: MIT */
/*
 * A program that uses the library: C and C++.  It makes a device, takes a page of
 * it through its life, and takes the device away.  No privilege needed.
 */
#include <dlfcn.h>
#include <errno.h>
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

typedef int (timeout_fn)(struct zd_device *dev, unsigned int ms, struct zd_pagemap_holders *out);
typedef int (sized_fn)(struct zd_device *dev, unsigned int ms, struct zd_pagemap_holders *out,
		      size_t size);

/* A call whose struct may grow: by name, by its address, and by the symbol. */
static int removal_waits(struct zd_device *dev, zd_pfn_t pfn)
{
	timeout_fn *fn = zd_device_unregister_timeout;
	struct zd_pagemap_holders h;
	sized_fn *sized;

	CHECK(zd_device_unregister_timeout(dev, 0, &h) == -ETIMEDOUT);
	CHECK(h.nr_pages == 1 && h.nr_pfns == 1 && h.pfns[0] == pfn);
	CHECK(fn(dev, 0, &h) == -ETIMEDOUT);
	*(void **)&sized = dlsym(dlopen(NULL, RTLD_NOW), "zd_device_unregister_timeout_sized");
	CHECK(sized);
	memset(&h, 0x5a, sizeof(h));
	CHECK(sized(dev, 0, &h, sizeof(h.nr_pages)) == -ETIMEDOUT);
	CHECK(h.nr_pages == 1 && h.nr_refs == 0x5a5a5a5a5a5a5a5aULL);
	return 0;
}

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
	CHECK(removal_waits(dev, pfn) == 0);
	zd_put_page(page);
	CHECK(zd_device_live_pages(dev) == 0);

	CHECK(zd_device_unregister(dev) == 0);
	CHECK(!zd_get_dev_pagemap(pfn));
	return 0;
}
