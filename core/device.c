/* SPDX-License-Identifier: MIT */
/*
 * Devices: a driver's ops, checked once, on a DEVICE_PRIVATE pagemap.
 *
 * A driver that was compiled against an older zonedev has a shorter ops struct.
 * Everyone reads dev->ops without looking at its size, so such a one is copied
 * at registration into a full struct whose tail is NULL; pgmap.embedder keeps
 * the driver's own, and is NULL where no copy was needed.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <zonedev/device.h>
#include <zonedev/log.h>

#include "core/alloc.h"
#include "core/device_host.h"

/* Through ->submit: nothing works without these. */
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

	return dev->host ? dev->host->drain(dev) : 0;
}

static const struct zd_pagemap_ops device_pagemap_ops = {
	.size = sizeof(device_pagemap_ops),
	.page_free = device_page_free,
	.revoke = device_revoke,
};

/* A newer driver's ops are fine if it doesn't use what we don't know. */
static bool tail_is_null(const struct zd_device_ops *ops)
{
	const char *p = (const char *)ops;

	for (size_t i = sizeof(*ops); i < ops->size; i++)
		if (p[i])
			return false;
	return true;
}

static const char *device_check(const struct zd_device *dev)
{
	const struct zd_device_ops *ops = dev->ops;

	if (!ops || !dev->name)
		return "no ops or no name";
	if (dev->pgmap.state)
		return "registered already";
	if (ops->version != ZD_DEVICE_OPS_VERSION)
		return "ops of another version";
	if (ops->size < MIN_OPS_SIZE || ops->size > 4096 || !tail_is_null(ops))
		return "ops too short, or with calls that are not known here";
	if (!ops->alloc_pages || !ops->unalloc_pages || !ops->page_free || !ops->submit)
		return "alloc_pages, unalloc_pages, page_free and submit are needed";
	if (!dev->nr_pages)
		return "no pages";
	return NULL;
}

static int ops_complete(struct zd_device *dev)
{
	struct zd_device_ops *full;

	dev->pgmap.embedder = NULL;
	if (dev->ops->size >= sizeof(*full))
		return 0;
	full = zd_alloc(sizeof(*full));
	if (!full)
		return -ENOMEM;
	memcpy(full, dev->ops, dev->ops->size);
	full->size = sizeof(*full);
	dev->pgmap.embedder = dev->ops;
	dev->ops = full;
	return 0;
}

static void ops_restore(struct zd_device *dev)
{
	const struct zd_device_ops *full = dev->ops;

	if (!dev->pgmap.embedder)
		return;
	dev->ops = dev->pgmap.embedder;
	dev->pgmap.embedder = NULL;
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
	dev->host = NULL;
	dev->deadline_ns = 0;
	dev->event_fd = -1;
	err = zd_memremap_pages(&dev->pgmap);
	if (err) {
		ops_restore(dev);
		return err;
	}
	if (dev->ops->event_fd)
		dev->event_fd = dev->ops->event_fd(dev);
	return 0;
}

/* The pagemap is gone: so is the device. */
static void device_gone(struct zd_device *dev)
{
	void (*destroy)(struct zd_device *dev) = dev->ops->destroy;

	if (dev->host)
		dev->host->detach(dev);
	ops_restore(dev);
	/* Last: it may free @dev. */
	if (destroy)
		destroy(dev);
}

/* A removal that an earlier call began: what could not come home then has
 * another chance. */
static int drain_again(struct zd_device *dev)
{
	return dev->removing && dev->host ? dev->host->drain(dev) : 0;
}

static int removed(struct zd_device *dev, int err)
{
	if (!err)
		device_gone(dev);
	else
		dev->removing = err == -ETIMEDOUT;
	return err;
}

int zd_device_unregister(struct zd_device *dev)
{
	int err;

	dev->deadline_ns = 0;
	err = drain_again(dev);
	return err ? err : removed(dev, zd_memunmap_pages(&dev->pgmap));
}

int zd_device_unregister_timeout(struct zd_device *dev, unsigned int ms,
				 struct zd_pagemap_holders *out)
{
	struct timespec ts;
	int err;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	dev->deadline_ns = ts.tv_sec * 1000000000ull + ts.tv_nsec + ms * 1000000ull;
	err = drain_again(dev);
	return err ? err : removed(dev, zd_memunmap_pages_timeout(&dev->pgmap, ms, out));
}

uint64_t zd_device_live_pages(const struct zd_device *dev)
{
	return zd_pagemap_live_pages(&dev->pgmap);
}
