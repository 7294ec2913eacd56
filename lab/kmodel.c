/* SPDX-License-Identifier: MIT */
/* Mapping, removal and what is out of line, for protocols a to e. */
#include <stdlib.h>

#include "base/lock.h"
#include "lab.h"

const char *const lab_title = LAB_TITLE;

#ifdef LAB_KEY
ZD_DEFINE_STATIC_KEY(lab_private_key);
#endif

static struct {
	struct lab_pagemap pgmap;
	struct zd_completion released;
	lab_page *pages;
	unsigned int nr;
	bool killed, put_pages;
} device;

static lab_page ram[2] = {
	{ .flags = LAB_ZONE_NORMAL << LAB_ZONE_SHIFT, .count = 1 },
	{ .flags = LAB_ZONE_NORMAL << LAB_ZONE_SHIFT, .count = 1 },
};

lab_page *lab_ram_page(unsigned int i)
{
	return &ram[i];
}

/* --- out of line --- */

void lab_page_last_put(lab_page *page)
{
	/* a, b: lab_put() drops the pagemap's reference by itself. */
	if (LAB_PAGES_HOLD && lab_is_device_page(page))
		zd_percpu_ref_put(&page->pgmap->ref);
}

void lab_get_device_page(lab_page *page)
{
	zd_percpu_ref_get(&page->pgmap->ref);
}

void lab_put_device_page(lab_page *page)
{
	zd_percpu_ref_put(&page->pgmap->ref);
}

void lab_put_private_page(lab_page *page)
{
	uint32_t left = __atomic_sub_fetch(&page->count, 1, __ATOMIC_ACQ_REL);

	if (left == 1)
		__atomic_add_fetch(&page->freed, 1, __ATOMIC_RELAXED);	/* the driver */
	else if (left == 0)
		lab_page_last_put(page);
}

struct lab_pagemap *lab_find_pagemap(const lab_page *page)
{
	return zd_percpu_ref_tryget_live(&page->pgmap->ref) ? page->pgmap : NULL;
}

void lab_put_pagemap(struct lab_pagemap *pgmap)
{
	zd_percpu_ref_put(&pgmap->ref);
}

/* --- the device --- */

static void released(struct zd_percpu_ref *ref)
{
	(void)ref;
	zd_complete(&device.released);
}

int lab_device_add(unsigned int nr)
{
	if (zd_percpu_ref_init(&device.pgmap.ref, released, 0))
		return -1;
	zd_completion_init(&device.released);
	device.pgmap.type = LAB_PRIVATE;
	device.nr = nr;
	device.killed = device.put_pages = false;
	device.pages = aligned_alloc(64, nr * sizeof(lab_page));
	if (!device.pages)
		return -1;
	for (unsigned int i = 0; i < nr; i++) {
		device.pages[i] = (lab_page){
			.flags = LAB_ZONE_DEVICE << LAB_ZONE_SHIFT,
			.count = 1, .pgmap = &device.pgmap,
		};
		if (LAB_PAGES_HOLD)
			zd_percpu_ref_get(&device.pgmap.ref);
	}
#ifdef LAB_KEY
	return zd_static_branch_inc(&lab_private_key);
#else
	return 0;
#endif
}

lab_page *lab_device_page(unsigned int i)
{
	return &device.pages[i];
}

int lab_device_use(unsigned int i)
{
	lab_get(&device.pages[i]);
	return 0;
}

unsigned int lab_device_freed(unsigned int i)
{
	return __atomic_load_n(&device.pages[i].freed, __ATOMIC_RELAXED);
}

static void kill_device(void)
{
	if (!device.killed)
		zd_percpu_ref_kill(&device.pgmap.ref);
	device.killed = true;
}

/* The references that the device has to its own pages. */
static void put_pages(void)
{
	if (!LAB_PAGES_HOLD || device.put_pages)
		return;
	device.put_pages = true;
	for (unsigned int i = 0; i < device.nr; i++)
		lab_put(&device.pages[i]);
}

static bool wait_device(unsigned int ms)
{
	return zd_wait_for_completion_timeout(&device.released, ms);
}

static void free_device(void)
{
	zd_percpu_ref_exit(&device.pgmap.ref);
	free(device.pages);
	device.pages = NULL;
#ifdef LAB_KEY
	zd_static_branch_dec(&lab_private_key);
#endif
}

bool lab_device_remove(unsigned int ms)
{
	kill_device();
	put_pages();
	if (!wait_device(ms))
		return false;
	free_device();
	return true;
}

bool lab_device_remove_wait_first(unsigned int ms)
{
	kill_device();
	if (!wait_device(ms))
		return false;
	put_pages();
	free_device();
	return true;
}
