/* SPDX-License-Identifier: MIT */
/* What zonedev does for a device with ZD_DEVICE_ASYNC; see device_async.c. */
#ifndef ZD_PAGES_DEVICE_ASYNC_H
#define ZD_PAGES_DEVICE_ASYNC_H

struct zd_device;
struct zd_device_ops;

/* Give @dev a queue of completed batches, and *@ops, its copy of the driver's, the calls that
 * serve the queue.  0, -ENOMEM, or -errno of eventfd(2). */
int zd_device_async_init(struct zd_device *dev, struct zd_device_ops *ops);

/* The device has no batch in flight, and gets none any more.  Waits until the thread that
 * completed the last one has left zd_io_complete_any().  A device that isn't asynchronous is
 * left alone. */
void zd_device_async_exit(struct zd_device *dev);

/* For drivers of zonedev's own. */

/* From now on, @on_reap is called at the end of each ->reap: by the thread that drives the
 * device.  Before @dev is used. */
void zd_device_async_on_reap(struct zd_device *dev, void (*on_reap)(struct zd_device *dev));

/* Have ->reap called soon.  Any thread, while @dev is registered; doesn't block. */
void zd_device_async_poke(struct zd_device *dev);

#endif
