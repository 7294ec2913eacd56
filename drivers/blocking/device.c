/* SPDX-License-Identifier: MIT */
/* The adapter as a device: its batches, and its life; see blocking.h. */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/sized.h"
#include "drivers/blocking/blocking.h"
#include "pages/device_async.h"
#include "zonedev/log.h"

#define DEFAULT_THREADS	4
#define TRIM_WORDS	64	/* 16 MiB: so many are idle before any is discarded, and go at once */
#define BOUNCE_BYTES	(ZD_BLOCKING_RUN * ZD_PAGE_SIZE)

/* --- what the thread that drives the device does --- */

/* Threads are this process's: the first may have been forked away from them. */
static int have_threads(struct blocking *b)
{
	return zd_is_this_process(&b->process) ? 0 : zd_blocking_start(b);
}

static void blocking_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct blocking *b = to_blocking(dev);
	int rc = zd_io_dir_is_known(io->dir) ? 0 : -EINVAL;

	if (!rc && have_threads(b))
		rc = -EAGAIN;
	if (rc || !io->nr) {
		for (unsigned int i = 0; i < io->nr; i++)
			io->pages[i].error = rc;
		zd_io_complete_any(dev, io);
		return;
	}
	zd_mutex_lock(&b->lock);
	zd_blocking_push(b, io);
	zd_blocking_wake(b);
	zd_blocking_wake_watch(b);
	zd_mutex_unlock(&b->lock);
}

static void blocking_reaped(struct zd_device *dev)
{
	struct blocking *b = to_blocking(dev);
	struct zd_pagemap *pgmap;
	uint64_t first, nr;
	bool busy;

	/* A forked copy puts the holds of the calls that it doesn't have, though no batch comes. */
	if (b->process.generation != zd_fork_generation)
		have_threads(b);
	/* Acquire: pairs with the release in zd_blocking_want_trim(). */
	if (!__atomic_load_n(&b->trim_wanted, __ATOMIC_RELAXED) ||
	    !__atomic_exchange_n(&b->trim_wanted, false, __ATOMIC_ACQUIRE) || have_threads(b))
		return;
	zd_mutex_lock(&b->lock);
	busy = b->trim_nr;
	zd_mutex_unlock(&b->lock);
	/* One at a time, whose end asks for the next; and only this thread begins one. */
	if (busy)
		return;
	/* The worker's hold.  By a lookup, since a device that is being removed may have no
	 * pagemap any more, and its number may be another's. */
	pgmap = zd_get_dev_pagemap(dev->pgmap.pfn);
	nr = pgmap == &dev->pgmap ? zd_pool_take_idle(&b->pool, TRIM_WORDS, &first) : 0;
	if (!nr) {
		if (pgmap)
			zd_put_dev_pagemap(pgmap);
		return;
	}
	zd_mutex_lock(&b->lock);
	b->trim_first = first;
	b->trim_nr = nr;
	b->trim_queued = true;
	b->activity++;
	zd_blocking_wake(b);
	zd_blocking_wake_watch(b);
	zd_mutex_unlock(&b->lock);
}

/* --- life --- */

static uint64_t blocking_ram_bytes(struct zd_device *dev)
{
	struct blocking *b = to_blocking(dev);

	return b->ops.ram_bytes(b->attr.priv);
}

static void blocking_release(struct blocking *b)
{
	for (unsigned int i = 0; i < b->attr.threads; i++)
		if (b->worker[i].bounce)
			zd_unreserve(b->worker[i].bounce, BOUNCE_BYTES);
	zd_pool_exit(&b->pool);
	zd_free(b);
}

static void blocking_destroy(struct zd_device *dev)
{
	struct blocking *b = to_blocking(dev);

	zd_blocking_stop(b);
	if (b->ops.close)
		b->ops.close(b->attr.priv);
	blocking_release(b);
}

/* The driver hears of it while no page that it is to do without can be had. */
static int blocking_resize(struct zd_device *dev, uint64_t nr_pages)
{
	struct blocking *b = to_blocking(dev);
	uint64_t old = zd_device_usable_pages(dev);
	int rc;

	if (nr_pages < old)
		zd_pool_resize(&b->pool, nr_pages);
	rc = b->ops.resize ? b->ops.resize(b->attr.priv, nr_pages) : 0;
	zd_pool_resize(&b->pool, rc ? old : nr_pages);
	return rc;
}

static const struct zd_device_ops blocking_ops = {
	.size = sizeof(blocking_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.alloc_pages = zd_blocking_alloc_pages,
	.unalloc_pages = zd_blocking_unalloc_pages,
	.page_free = zd_blocking_page_free,
	.submit = blocking_submit,
	.destroy = blocking_destroy,
	.stats = zd_blocking_stats,
	.resize = blocking_resize,
};

static const char *check(const struct zd_blocking_attr *attr)
{
	const struct zd_blocking_ops *ops = attr->ops;

	if (!attr->name || !ops || !attr->nr_pages)
		return "no name, no ops, or no pages";
	if (attr->threads > ZD_BLOCKING_THREADS)
		return "too many threads";
	if (attr->flags & ~(uint64_t)ZD_DEVICE_NO_MALLOC)
		return "flags that are not known here";
	if (ops->version != ZD_BLOCKING_OPS_VERSION)
		return "ops of another version";
	if (ops->size < offsetof(struct zd_blocking_ops, discard) ||
	    !zd_tail_is_zero(ops, sizeof(*ops), ops->size))
		return "ops too short, or with calls that are not known here";
	if (!ops->read || !ops->write)
		return "read and write are needed";
	return NULL;
}

static int init(struct blocking *b)
{
	int rc = zd_pool_init(&b->pool, b->attr.nr_pages, ZD_POOL_RUNS, TRIM_WORDS, false);

	for (unsigned int i = 0; i < b->attr.threads && !rc && b->attr.deadline_ms; i++) {
		b->worker[i].bounce = zd_reserve(BOUNCE_BYTES);
		if (!b->worker[i].bounce)
			rc = -ENOMEM;
	}
	b->process = zd_this_process();
	b->device_ops = blocking_ops;
	b->device_ops.flags = ZD_DEVICE_ASYNC | b->attr.flags;
	if (b->ops.ram_bytes)
		b->device_ops.ram_bytes = blocking_ram_bytes;
	b->dev.ops = &b->device_ops;
	b->dev.name = b->attr.name;
	b->dev.nr_pages = b->attr.nr_pages;
	b->dev.private_data = b;
	return rc;
}

int zd_blocking_device_create(const struct zd_blocking_attr *attr, struct zd_device **dev)
{
	struct zd_blocking_attr known;
	struct blocking *b;
	const char *what;
	int rc;

	if (!attr || !dev || !zd_tail_is_zero(attr, sizeof(known), attr->size))
		return -EINVAL;
	zd_take(&known, sizeof(known), attr, attr->size);
	what = check(&known);
	if (what) {
		zd_warn_once("zd_blocking_device_create: %s", what);
		return -EINVAL;
	}
	if (!known.threads)
		known.threads = DEFAULT_THREADS;
	b = zd_alloc(sizeof(*b) + known.threads * sizeof(b->worker[0]));
	if (!b)
		return -ENOMEM;
	b->attr = known;
	zd_take(&b->ops, sizeof(b->ops), known.ops, known.ops->size);
	rc = init(b);
	if (rc)
		goto out_release;
	rc = zd_blocking_start(b);
	if (rc)
		goto out_release;
	rc = zd_device_register(&b->dev);
	if (rc)
		goto out_stop;
	zd_device_async_on_reap(&b->dev, blocking_reaped);
	*dev = &b->dev;
	return 0;

out_stop:
	zd_blocking_stop(b);
out_release:
	blocking_release(b);
	return rc;
}
