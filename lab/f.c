/* SPDX-License-Identifier: MIT */
/* zonedev behind the lab's interface: nothing but calls of the library. */
#include <stdlib.h>

#include <zonedev/pagemap.h>

#include "lab.h"

const char *const lab_title = LAB_TITLE;

static void page_freed(struct zd_page *page);

static const struct zd_pagemap_ops ops = { .size = sizeof(ops), .page_free = page_freed };
static struct zd_pagemap device, ram;
static unsigned int *freed;

static void page_freed(struct zd_page *page)
{
	struct zd_pagemap *pgmap = zd_page_pagemap(page);

	if (pgmap == &device)
		__atomic_add_fetch(&freed[zd_page_to_pfn(page) - device.pfn], 1, __ATOMIC_RELAXED);
}

/* Descriptors have 16 bytes: 64 of them apart, no two share a cache line. */
lab_page *lab_ram_page(unsigned int i)
{
	if (!ram.priv) {
		ram = (struct zd_pagemap){ .type = ZD_MEMORY_SYSTEM, .nr_pages = 512 };
		if (zd_memremap_pages(&ram) || zd_page_init(zd_pfn_to_page(ram.pfn)) ||
		    zd_page_init(zd_pfn_to_page(ram.pfn + 64)))
			abort();
	}
	return zd_pfn_to_page(ram.pfn + 64 * i);
}

int lab_device_add(unsigned int nr)
{
	device = (struct zd_pagemap){
		.type = ZD_MEMORY_DEVICE_PRIVATE, .ops = &ops, .nr_pages = nr,
	};
	freed = calloc(nr, sizeof(*freed));
	return freed ? zd_memremap_pages(&device) : -1;
}

lab_page *lab_device_page(unsigned int i)
{
	return zd_pfn_to_page(device.pfn + i);
}

int lab_device_use(unsigned int i)
{
	return zd_page_init(lab_device_page(i));
}

unsigned int lab_device_freed(unsigned int i)
{
	return __atomic_load_n(&freed[i], __ATOMIC_RELAXED);
}

bool lab_device_remove(unsigned int ms)
{
	if (zd_memunmap_pages_timeout(&device, ms, NULL))
		return false;
	free(freed);
	freed = NULL;
	return true;
}

/* There is nothing to release before: a free page holds nothing. */
bool lab_device_remove_wait_first(unsigned int ms)
{
	return lab_device_remove(ms);
}
