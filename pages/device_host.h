/* SPDX-License-Identifier: MIT */
/*
 * What the server that uses a device does when the device is removed.
 */
#ifndef ZD_PAGES_DEVICE_HOST_H
#define ZD_PAGES_DEVICE_HOST_H

struct zd_device;
struct zd_device_io;

struct zd_device_host {
	/* Bring the device's pages home.  0, also when some could not come before
	 * dev->deadline_ns; call the removal off: -ENOMEM, or -EIO when the
	 * device can't read a page. */
	int (*drain)(struct zd_device *dev);
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
