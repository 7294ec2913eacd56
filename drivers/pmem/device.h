/* SPDX-License-Identifier: MIT */
/*
 * drivers/pmem/device.h - a medium as device memory.
 *
 *	device_driver.c	its names, pmem and dax
 *	device.c	the device: create, destroy, pages, ->submit and ->direct_access
 *	device_medium.c	from a path to a medium that is safe to use
 *
 * Each calls those below it only.
 *
 * The device has the medium and no region (pmem.h): no queue, no BTT, and no pagemap but the
 * DEVICE_PRIVATE one, since no thread but the server's ever asks for one of its pages by address.
 */
#ifndef ZD_DRIVERS_PMEM_DEVICE_H
#define ZD_DRIVERS_PMEM_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "pages/ioq.h"
#include "drivers/media/media.h"
#include "drivers/pool.h"
#include "zonedev/device.h"

/*
 * @by_address: ->direct_access gives pages out; constant.
 * @nr_bad: pages with a bad block, which the pool counts as used for good; atomic.
 * @due: when storage is given back, 0: no need; guarded by @lock, a leaf, with which the timer
 * is set.  @page_lock: that of the medium's struct zd_media_pages, a leaf.
 * @empty_fd: a file without a byte, for injected poison; -1: none was injected.
 */
struct zd_pmem_device {
	struct zd_device dev;
	struct zd_media media;
	struct zd_pool pool;
	bool by_address;
	bool told_cut;			/* the server's thread */
	uint64_t nr_bad;
	int timer;
	struct zd_mutex lock;
	uint64_t due;
	struct zd_mutex page_lock;
	int empty_fd;
	struct zd_io_finisher finisher;
	char name[64];
};

extern const struct zd_device_ops zd_pmem_device_ops;

#endif
