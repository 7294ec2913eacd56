/* SPDX-License-Identifier: MIT */
/*
 * What the server that uses a device does when the device is removed.
 */
#ifndef ZD_PAGES_DEVICE_HOST_H
#define ZD_PAGES_DEVICE_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <zonedev/pfn.h>

struct zd_device;
struct zd_device_io;

struct zd_device_host {
	/* Bring the device's pages home.  0, also when some could not come before
	 * dev->deadline_ns; call the removal off: -ENOMEM; -EAGAIN: the device can't be reached
	 * now; -EIO: it can't read a page. */
	int (*drain)(struct zd_device *dev);
	/* Bring home the device's pages from @first on, and land what is on its way there; what
	 * isn't before @until_ns (0: none) stays, and *@flying tells whether batches do.  0;
	 * -ENOMEM, -EAGAIN, -EIO as above; -EINVAL: called from a callback, or a child. */
	int (*clear)(struct zd_device *dev, zd_pfn_t first, uint64_t until_ns, bool *flying);
	/* The device has no live page any more: forget the device.  (Where the device
	 * has another server by now, or none, there is nothing to do.) */
	void (*detach)(struct zd_device *dev);
	/* Have the server's thread do the batch, and wait; -EAGAIN: no server
	 * drives the device any more. */
	int (*run)(struct zd_device *dev, struct zd_device_io *io);
};

/*
 * zd_device_run - do a batch, from submission to its end, in whichever thread drives
 * the device: its server's, or with no server, this one.  @io lies in zonedev's own
 * memory; zd_device_run() sets its done and owner.  The caller holds the pages, so the
 * device stays.  0: io->pages[].error say what became of each page; -EINVAL, -ENOMEM: the
 * batch was not submitted.  May block.
 */
int zd_device_run(struct zd_device *dev, struct zd_device_io *io);

#endif
