/* SPDX-License-Identifier: MIT */
/*
 * What the server that uses a device does when the device is removed.
 */
#ifndef CORE_DEVICE_HOST_H
#define CORE_DEVICE_HOST_H

struct zd_device;

struct zd_device_host {
	/* Bring the device's pages home.  0, also when some could not come before
	 * dev->deadline_ns; call the removal off: -ENOMEM, or -ETIMEDOUT when
	 * pages were still on their way out then. */
	int (*drain)(struct zd_device *dev);
	/* The device has no live page any more: forget it. */
	void (*detach)(struct zd_device *dev);
};

#endif
