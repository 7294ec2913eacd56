/* SPDX-License-Identifier: MIT */
/*
 * drivers/pmem/device.h - a medium as device memory.
 *
 *	device_driver.c		its names, pmem and dax
 *	device_create.c		which kind of device it becomes
 *	device.c		a device, where the medium is memory
 *	device_disk.c		a device, where its pages may have to wait for a disk
 *	device_copy.c		a page copied
 *	device_medium.c		from a path to a medium that is safe to use
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
#include "drivers/pmem/device_medium.h"
#include "drivers/pool.h"
#include "zonedev/device.h"

/*
 * @by_address: ->direct_access gives pages out; constant.
 * @nr_bad: pages with a bad block, which the pool counts as used for good; atomic.
 * @due: when storage is given back, 0: no need; guarded by @lock, a leaf, with which the timer
 * is set.
 */
struct zd_pmem_device {
	struct zd_device dev;
	struct zd_device_medium *medium;
	struct zd_pool pool;
	bool by_address;
	uint64_t nr_bad;
	int timer;
	struct zd_mutex lock;
	uint64_t due;
	struct zd_io_finisher finisher;
};

extern const struct zd_device_ops zd_pmem_device_ops;

/* Make a device of @medium, which is the device's then, and ends with it.  0 or -errno.  The
 * thread that creates the device; they block. */
int zd_pmem_device_in_memory(struct zd_device_medium *medium, struct zd_device **dev);
int zd_pmem_device_on_disk(struct zd_device_medium *medium, struct zd_device **dev);

#endif
