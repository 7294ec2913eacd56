/* SPDX-License-Identifier: MIT */
/*
 * drivers/file/file.c - a file or block device as device memory.
 *
 * Page i of the device is page i of the file.  ->submit cuts a batch into
 * requests and starts them (batch.c); ->reap collects results, starts what
 * had to wait for a free request, and punches holes.  Both run in the server's
 * thread only, so nothing but the page pool has a lock.  Where io_uring is not
 * to be had, requests run inside ->submit by preadv and pwritev.
 *
 * ->page_free touches the pool and, when enough has become free, an eventfd:
 * the hole itself is punched by the next ->reap.
 *
 * In buffered mode (tmpfs, some network file systems) a write is done when the
 * page cache has the page, so an error on the way to the medium may come too late
 * to be seen.  O_DIRECT is used wherever it exists.
 */
#include "drivers/file/file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "zonedev/file.h"

static struct zd_file *to_file(const struct zd_device *dev)
{
	return dev->private_data;
}

static int file_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	if (nr > INT_MAX)
		nr = INT_MAX;
	return zd_pool_alloc(&to_file(dev)->pool, nr, dev->pgmap.pfn, pfns);
}

static void free_index(struct zd_file *file, uint64_t index)
{
	if (zd_pool_free(&file->pool, index))
		zd_file_kick(file);
}

static void file_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		free_index(to_file(dev), zd_device_page_index(dev, pfns[i]));
}

static void file_page_free(struct zd_device *dev, struct zd_page *page)
{
	free_index(to_file(dev), zd_device_page_index(dev, zd_page_to_pfn(page)));
}

static void file_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct zd_file *file = to_file(dev);

	if (!zd_io_dir_is_known(io->dir)) {
		for (unsigned int i = 0; i < io->nr; i++)
			io->pages[i].error = -EINVAL;
		zd_ioq_push(&file->finisher.done, io);
		zd_io_finish(&file->finisher);
		return;
	}
	io->driver = NULL;
	io->pending = 0;
	file->batches++;
	zd_ioq_push(&file->queue, io);
	zd_file_pump(file);
	zd_io_finish(&file->finisher);
}

static int file_reap(struct zd_device *dev, bool wait)
{
	struct zd_file *file = to_file(dev);
	uint64_t ticks;
	int nr = 0;

	/* Drain the event before looking: a later completion sets it again. */
	(void)!read(file->event, &ticks, sizeof(ticks));
	do {
		if (file->uring)
			zd_file_uring_reap(file, wait && file->batches);
		zd_file_pump(file);
		nr += zd_io_finish(&file->finisher);
	} while (wait && !nr && file->batches);

	zd_file_punch(file);
	if (file->uring)
		zd_file_uring_flush(file);
	return nr;
}

static int file_event_fd(struct zd_device *dev)
{
	return to_file(dev)->event;
}

/* The file keeps its length, by which a truncation is noticed (request.c): what it held above
 * becomes holes, as anywhere. */
static int file_resize(struct zd_device *dev, uint64_t nr_pages)
{
	zd_pool_resize(&to_file(dev)->pool, nr_pages);
	return 0;
}

/* O_DIRECT transfers to and from any memory; else the page cache is in between. */
static int file_p2p_distance(struct zd_device *dev, const void *addr, size_t len)
{
	(void)addr;
	(void)len;
	return to_file(dev)->target.direct ? 1 : -1;
}

static void file_release(struct zd_file *file)
{
	if (file->uring)
		zd_file_uring_exit(file);
	if (file->event >= 0)
		close(file->event);
	if (file->reqs)
		zd_unreserve(file->reqs, ZD_FILE_DEPTH * sizeof(*file->reqs));
	zd_pool_exit(&file->pool);
	if (file->target.fd >= 0)
		zd_file_close(&file->target);
	zd_free(file);
}

static void file_destroy(struct zd_device *dev)
{
	file_release(to_file(dev));
}

static const struct zd_device_ops file_ops = {
	.size = sizeof(file_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.flags = ZD_DEVICE_NO_MALLOC,
	.alloc_pages = file_alloc_pages,
	.unalloc_pages = file_unalloc_pages,
	.page_free = file_page_free,
	.submit = file_submit,
	.reap = file_reap,
	.event_fd = file_event_fd,
	.destroy = file_destroy,
	.p2p_distance = file_p2p_distance,
	.resize = file_resize,
};

static int init_requests(struct zd_file *file)
{
	unsigned int i;

	file->reqs = zd_reserve(ZD_FILE_DEPTH * sizeof(*file->reqs));
	if (!file->reqs)
		return -ENOMEM;
	for (i = ZD_FILE_DEPTH; i--;) {
		file->reqs[i].next = file->free_reqs;
		file->free_reqs = &file->reqs[i];
	}
	return 0;
}

static void set_mode(struct zd_file *file, int uring_error)
{
	const char *how = file->target.direct ? "O_DIRECT" : "buffered";

	if (file->uring)
		snprintf(file->mode, sizeof(file->mode), "io_uring, %s", how);
	else
		snprintf(file->mode, sizeof(file->mode), "pread/pwrite, %s (no io_uring: %s)", how,
			 strerror(-uring_error));
}

int zd_file_device_create(const char *path, uint64_t size, unsigned int flags,
			  struct zd_device **dev)
{
	struct zd_file *file = zd_alloc(sizeof(*file));
	int ret;

	if (!file)
		return -ENOMEM;
	file->event = -1;
	ret = zd_file_open(path, size, flags, &file->target);
	if (ret)
		goto out;
	ret = zd_pool_init(&file->pool, file->target.size >> ZD_PAGE_SHIFT, ZD_POOL_RUNS,
			   ZD_FILE_KICK_WORDS, false);
	if (ret)
		goto out;
	ret = init_requests(file);
	if (ret)
		goto out;
	file->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (file->event < 0) {
		ret = -errno;
		goto out;
	}
	set_mode(file, zd_file_uring_init(file));

	snprintf(file->name, sizeof(file->name), "file:%s", path ? path : "(unnamed)");
	file->dev.ops = &file_ops;
	file->dev.name = file->name;
	file->dev.nr_pages = file->target.size >> ZD_PAGE_SHIFT;
	file->dev.private_data = file;
	ret = zd_device_register(&file->dev);
	if (ret)
		goto out;
	/* From now on pages may be on a block device, and its end clears them; until
	 * now a failure had to leave the block device as it was. */
	file->target.clear |= file->target.block;
	*dev = &file->dev;
	return 0;

out:
	file_release(file);
	return ret;
}

const char *zd_file_device_mode(const struct zd_device *dev)
{
	return dev->ops == &file_ops ? to_file(dev)->mode : NULL;
}
