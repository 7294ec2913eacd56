/* SPDX-License-Identifier: MIT */
/*
 * zonedev/blocking.h - a device whose driver can only block.
 *
 * Most libraries that reach a device block, and allocate.  A driver for one is written here as
 * blocking reads and writes of runs of pages; zonedev gives it worker threads, and does the rest
 * of what zonedev/device.h asks of a driver: free pages, batches, and completions.
 * drivers/example/example_blocking.c is the one to copy.
 *
 * What a worker does first.  Reads go before writes, since a thread may wait for a page that is
 * read, and for a written one hardly ever; where writes wait all the same, each ninth call is a
 * write.  One worker is always left for reads: with two threads or more, @threads - 1 of them
 * write or discard at a time.  Discards come when nothing else is to be done, one at a time.
 *
 * Threads.  The calls of zd_blocking_ops may be made by several workers at the same time, for
 * different pages; never two for one page, unless a deadline (below) has passed.  A worker has
 * a stack of 2 MiB and all signals blocked.  Where the program forks, a child has no workers;
 * the first batch that the child gives to the device starts some there.  What zonedev/device.h
 * says of managed memory and of malloc() holds for the workers too.
 *
 * Deadlines.  A driver's call can't be taken back, and what it works on can't be taken away.  So
 * with @deadline_ms the workers read and write by way of memory of their own (a copy a page), and
 * what has not been answered in time, from the batch's submission on, is answered with -EAGAIN:
 * the device can't be reached now.  A page that was to go out stays in RAM; a fault goes on
 * waiting and is tried again, until the driver answers.  What the late call returns in the end
 * is ignored, and pages of a late write are not used again before.  Without a deadline the
 * driver reads and writes the batch's own memory, and a batch takes as long as its calls.
 *
 * Removal.  What waits to be written or discarded when the device is being removed is not begun
 * any more; pages that were to be written stay in RAM.  Each call into the driver holds the device (zd_pagemap_holders.nr_refs):
 * a removal waits for calls that have begun, or times out.  A call that has not returned for
 * 10 s is named in the log.
 */
#ifndef ZONEDEV_BLOCKING_H
#define ZONEDEV_BLOCKING_H

#include <zonedev/device.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define ZD_BLOCKING_OPS_VERSION	1

#define ZD_BLOCKING_RUN		64	/* pages of one read or write, at most */
#define ZD_BLOCKING_THREADS	64	/* at most */

/*
 * struct zd_blocking_ops - the driver's side.  All may block, and return 0 or -errno, if
 * nothing else is said.  @priv: of zd_blocking_attr.
 *
 * @size: sizeof(struct zd_blocking_ops) as the driver was compiled; the struct only grows, at
 *	the end.  @version: ZD_BLOCKING_OPS_VERSION.
 * @read, @write: copy the pages @first .. @first + @nr - 1 of the device to @buf, or from it; @buf
 *	is aligned to ZD_PAGE_SIZE, and the pages lie in it one after the other.  -EAGAIN: the
 *	device can't be reached now (zonedev/device.h).  -EIO and -ENOSPC may be of one page
 *	only: each page of a run is then tried alone.  Any other error is the whole run's.
 * @discard: the contents of these pages, 64 * n in a row, are not needed any more.  It runs
 *	while nobody reads or writes them.  NULL: the device can't use that.
 * @stats, @ram_bytes: as in zd_device_ops; may be NULL.
 * @resize: the same, once pages that are to go can't be had any more.  NULL: the driver needn't
 *	know, and the device can be resized all the same.
 * @close: the device is unregistered, and no other call is running; may be NULL.
 * @is_bad: is page @index of the device known to be broken?  It isn't given out then, nor asked for
 *	again.  Any thread, at any time; must not block.  NULL: none is.
 */
struct zd_blocking_ops {
	size_t size;
	uint32_t version;
	int (*read)(void *priv, uint64_t first, unsigned int nr, void *buf);
	int (*write)(void *priv, uint64_t first, unsigned int nr, const void *buf);
	int (*discard)(void *priv, uint64_t first, uint64_t nr);
	int (*stats)(void *priv, struct zd_device_stat *stats, unsigned int nr);
	uint64_t (*ram_bytes)(void *priv);
	int (*resize)(void *priv, uint64_t nr_pages);
	void (*close)(void *priv);
	bool (*is_bad)(void *priv, uint64_t index);
};

/*
 * struct zd_blocking_attr - a device to be made.
 *
 * @size: sizeof(struct zd_blocking_attr).  @name: for logs and the threads' names; must outlive
 * the device.  @threads: 1 .. ZD_BLOCKING_THREADS; 0: 4.  @deadline_ms: see above; 0: none.
 * @flags: ZD_DEVICE_NO_MALLOC, or 0.
 */
struct zd_blocking_attr {
	size_t size;
	const char *name;
	uint64_t nr_pages;
	unsigned int threads;
	unsigned int deadline_ms;
	uint64_t flags;
	const struct zd_blocking_ops *ops;
	void *priv;
};

/*
 * zd_blocking_device_create - make a device of @attr; zd_device_unregister() ends it, and calls
 * ->close.
 *
 * Its statistics (zd_device_ops.stats) are, before the driver's own: reads and writes, in calls;
 * read_pages and write_pages; read_us and write_us, from submission to answer, the mean, and
 * read_p99_us and write_p99_us; discard_pages; queued, pages that wait for a worker; running,
 * calls; late, pages whose deadline has passed; retries, pages tried alone; errors, pages;
 * bad_pages, which aren't given out.
 *
 * Returns 0; -EINVAL: an attribute, or ops of another version; -ENOMEM; -EAGAIN: no threads;
 * -errno of zd_device_register().  After a failure @priv is the caller's, and ->close was not
 * called.
 * Context: may block, fork-safe.
 */
int zd_blocking_device_create(const struct zd_blocking_attr *attr, struct zd_device **dev);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
