/* SPDX-License-Identifier: MIT */
/*
 * Devices: a driver's ops, checked once, on a DEVICE_PRIVATE pagemap.
 *
 * A driver that was compiled against an older zonedev has a shorter ops struct.
 * zonedev reads dev->ops without looking at its size, so a shorter struct is copied
 * at registration into a full one whose tail is NULL; dev->driver_ops keeps the
 * driver's own, and is NULL where no copy was needed.  A device that completes from any
 * thread has a copy as well, in which zonedev's own ->submit, ->reap and ->event_fd stand
 * (device_async.c).
 */
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

#include <zonedev/device.h>
#include <zonedev/log.h>

#include "base/alloc.h"
#include "base/lock.h"
#include "base/sized.h"
#include "pages/device_async.h"
#include "pages/device_host.h"
#include "pages/pagemap.h"

/* Up to ->submit: no driver works without these. */
#define MIN_OPS_SIZE	offsetof(struct zd_device_ops, reap)

static struct zd_device *device_of(struct zd_pagemap *pgmap)
{
	return (struct zd_device *)((char *)pgmap - offsetof(struct zd_device, pgmap));
}

static void device_page_free(struct zd_page *page)
{
	struct zd_device *dev = device_of(zd_page_pagemap(page));

	dev->ops->page_free(dev, page);
}

static int device_revoke(struct zd_pagemap *pgmap)
{
	struct zd_device *dev = device_of(pgmap);
	/* Acquire: pairs with the release in zd_hmm_attach(). */
	const struct zd_device_host *host = __atomic_load_n(&dev->host, __ATOMIC_ACQUIRE);

	dev->deadline_ns = pgmap->priv->until_ms * 1000000;
	return host ? host->drain(dev) : 0;
}

static const struct zd_pagemap_ops device_pagemap_ops = {
	.size = sizeof(device_pagemap_ops),
	.page_free = device_page_free,
	.revoke = device_revoke,
};

/* The driver's flags: an older driver's ops end before them. */
static uint64_t ops_flags(const struct zd_device_ops *ops)
{
	return ops->size >= offsetof(struct zd_device_ops, flags) + sizeof(ops->flags) ?
		       ops->flags :
		       0;
}

static const char *device_check(const struct zd_device *dev)
{
	const struct zd_device_ops *ops = dev->ops;

	if (!ops || !dev->name)
		return "no ops or no name";
	if (dev->pgmap.priv)
		return "registered already";
	if (ops->version != ZD_DEVICE_OPS_VERSION)
		return "ops of another version";
	if (ops->size < MIN_OPS_SIZE || !zd_tail_is_zero(ops, sizeof(*ops), ops->size))
		return "ops too short, or with calls that are not known here";
	if (ops_flags(ops) & ~(uint64_t)ZD_DEVICE_FLAGS)
		return "flags that are not known here";
	if (ops_flags(ops) & ZD_DEVICE_ASYNC && (ops->reap || ops->event_fd))
		return "a driver with ZD_DEVICE_ASYNC has neither reap nor event_fd";
	if (!ops->alloc_pages || !ops->unalloc_pages || !ops->page_free || !ops->submit)
		return "alloc_pages, unalloc_pages, page_free and submit are needed";
	if (!dev->nr_pages)
		return "no pages";
	return NULL;
}

static int ops_complete(struct zd_device *dev)
{
	bool async = ops_flags(dev->ops) & ZD_DEVICE_ASYNC;
	struct zd_device_ops *full;
	int err;

	dev->driver_ops = NULL;
	dev->async = NULL;
	if (dev->ops->size >= sizeof(*full) && !async)
		return 0;
	full = zd_alloc(sizeof(*full));
	if (!full)
		return -ENOMEM;
	memcpy(full, dev->ops, dev->ops->size < sizeof(*full) ? dev->ops->size : sizeof(*full));
	full->size = sizeof(*full);
	if (async) {
		err = zd_device_async_init(dev, full);
		if (err) {
			zd_free(full);
			return err;
		}
	}
	dev->driver_ops = dev->ops;
	dev->ops = full;
	return 0;
}

static void ops_restore(struct zd_device *dev)
{
	const struct zd_device_ops *full = dev->ops;

	if (!dev->driver_ops)
		return;
	zd_device_async_exit(dev);
	dev->ops = dev->driver_ops;
	dev->driver_ops = NULL;
	zd_free((void *)full);
}

int zd_device_register(struct zd_device *dev)
{
	const char *what = device_check(dev);
	int err;

	if (what) {
		zd_warn_once("zd_device_register: %s", what);
		return -EINVAL;
	}
	err = ops_complete(dev);
	if (err)
		return err;
	dev->pgmap.type = ZD_MEMORY_DEVICE_PRIVATE;
	dev->pgmap.ops = &device_pagemap_ops;
	dev->pgmap.owner = dev;
	dev->pgmap.nr_pages = dev->nr_pages;
	dev->server = NULL;
	dev->submit_lock = 0;
	dev->host = NULL;
	dev->deadline_ns = 0;
	dev->event_fd = -1;
	dev->nr_usable = dev->nr_pages;
	err = zd_memremap_pages(&dev->pgmap);
	if (err) {
		ops_restore(dev);
		return err;
	}
	if (dev->ops->event_fd)
		dev->event_fd = dev->ops->event_fd(dev);
	return 0;
}

/* The pagemap is gone, and with it the device. */
static void device_gone(struct zd_device *dev)
{
	void (*destroy)(struct zd_device *dev) = dev->ops->destroy;

	if (__atomic_load_n(&dev->host, __ATOMIC_ACQUIRE))
		dev->host->detach(dev);
	ops_restore(dev);
	/* Last: ->destroy may free @dev. */
	if (destroy)
		destroy(dev);
}

/* Pages that could not come home in an earlier call have another chance: revoke again.
 * Until zd_pagemap_unmap() has claimed the pagemap, @dev may be another thread's to remove,
 * or gone.  May block. */
static int unregister(struct zd_device *dev, int ms, struct zd_pagemap_holders *out)
{
	int err = zd_pagemap_unmap(&dev->pgmap, ms, out, device_revoke);

	if (!err)
		device_gone(dev);
	return err;
}

int zd_device_unregister(struct zd_device *dev)
{
	return unregister(dev, -1, NULL);
}

int zd_device_unregister_timeout_sized(struct zd_device *dev, unsigned int ms,
				       struct zd_pagemap_holders *out, size_t size)
{
	struct zd_pagemap_holders holders = { 0 };
	int err = unregister(dev, ms < INT_MAX ? (int)ms : INT_MAX, &holders);

	if (out)
		zd_fill(out, size, &holders, sizeof(holders));
	return err;
}

uint64_t zd_device_live_pages(const struct zd_device *dev)
{
	return zd_pagemap_live_pages(&dev->pgmap);
}

struct zd_device *zd_page_device(const struct zd_page *page)
{
	struct zd_pagemap *pgmap = zd_page_pagemap(page);

	return pgmap && pgmap->ops == &device_pagemap_ops ? device_of(pgmap) : NULL;
}

/* --- batches of callers that are no server --- */

static void run_done(struct zd_device_io *io)
{
	*(bool *)io->owner = true;
}

/* With dev->submit_lock, which keeps a server from attaching: ->submit and ->reap are this
 * thread's, and the completions come in it.  May block. */
static void run_here(struct zd_device *dev, struct zd_device_io *io)
{
	bool done = false;

	io->owner = &done;
	io->done = run_done;
	dev->ops->submit(dev, io);
	while (!done)
		dev->ops->reap(dev, true);
}

int zd_device_run(struct zd_device *dev, struct zd_device_io *io)
{
	const struct zd_device_host *host;
	int rc;

	do {
		/* a server that attaches meanwhile tries again (zd_server_attach()) */
		zd_lock_word(&dev->submit_lock);
		if (!__atomic_load_n(&dev->server, __ATOMIC_ACQUIRE)) {
			run_here(dev, io);
			zd_unlock_word(&dev->submit_lock);
			return 0;
		}
		zd_unlock_word(&dev->submit_lock);
		/* Acquire: as in device_revoke().  A host comes a moment after its server. */
		host = __atomic_load_n(&dev->host, __ATOMIC_ACQUIRE);
		rc = host ? host->run(dev, io) : -EAGAIN;
	} while (rc == -EAGAIN);
	return rc;
}
