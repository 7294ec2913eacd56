/* SPDX-License-Identifier: MIT */
/*
 * drivers/example/example.c - the driver to copy.
 *
 * A complete device in a hundred lines: its memory is an array, its copies are
 * memcpy, and it does one thing after the other.  zonedev/device.h says what
 * each callback must do; the comments here say why this driver does it so.
 *
 * It is a plugin, too, by what stands at the end.  Built against the installed headers alone,
 *
 *	cc -shared -fPIC -o example.so example.c $(pkg-config --cflags zonedev)
 *	zonedev info --devices plugin:./example.so
 *	zonedev run --device plugin:./example.so,size=1G --ram 64M -- sort big
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <zonedev/device.h>
#include <zonedev/driver.h>

struct example {
	struct zd_device dev;		/* zonedev calls back with this */
	pthread_mutex_t lock;		/* pages are freed by any thread */
	size_t bytes;			/* of the mapping that holds all this */
	char *memory;			/* stands for the hardware */
	bool used[];			/* one flag a page */
};

/* Hand out free pages, upwards: neighbours can be copied as one run by a real
 * device.  The caller makes them live; the driver only must not give one twice. */
static int example_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct example *ex = dev->private_data;
	unsigned int got = 0;
	uint64_t i;

	pthread_mutex_lock(&ex->lock);
	for (i = 0; i < dev->nr_pages && got < nr; i++) {
		if (!ex->used[i]) {
			ex->used[i] = true;
			pfns[got++] = dev->pgmap.pfn + i;	/* index -> pfn */
		}
	}
	pthread_mutex_unlock(&ex->lock);
	return got;	/* fewer than nr: that was all; 0: full */
}

/* Pages that were handed out and never used. */
static void example_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	struct example *ex = dev->private_data;

	pthread_mutex_lock(&ex->lock);
	while (nr--)
		ex->used[zd_device_page_index(dev, *pfns++)] = false;
	pthread_mutex_unlock(&ex->lock);
}

/* The last reference to the page was put.  Any thread may call this, even one that
 * serves a fault: take a short lock, don't malloc, don't wait. */
static void example_page_free(struct zd_device *dev, struct zd_page *page)
{
	zd_pfn_t pfn = zd_page_to_pfn(page);

	example_unalloc_pages(dev, 1, &pfn);
}

/* Copy a batch.  A page that can't be read must say so (-EIO), never deliver
 * something else.  The copies are done at once, so ->reap and ->event_fd are NULL; a driver
 * with real hardware starts them here and calls zd_io_complete() from ->reap. */
static void example_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct example *ex = dev->private_data;
	unsigned int i;

	for (i = 0; i < io->nr; i++) {
		struct zd_io_page *page = &io->pages[i];
		char *mem = ex->memory + zd_device_page_index(dev, page->pfn) * ZD_PAGE_SIZE;
		page->error = 0;
		if (io->dir == ZD_TO_DEVICE)
			memcpy(mem, page->buf, ZD_PAGE_SIZE);
		else if (io->dir == ZD_FROM_DEVICE)
			memcpy(page->buf, mem, ZD_PAGE_SIZE);
		else
			page->error = -EINVAL;
	}
	zd_io_complete(io);	/* the batch isn't the driver's any more */
}

static void example_destroy(struct zd_device *dev)	/* nothing is live or in flight */
{
	munmap(dev->private_data, ((struct example *)dev->private_data)->bytes);
}

static const struct zd_device_ops example_ops = {
	.size = sizeof(example_ops),		/* lets the struct grow later */
	.version = ZD_DEVICE_OPS_VERSION,
	.flags = ZD_DEVICE_NO_MALLOC,
	.alloc_pages = example_alloc_pages,
	.unalloc_pages = example_unalloc_pages,
	.page_free = example_page_free,
	.submit = example_submit,
	.destroy = example_destroy,
};

int example_device_create(uint64_t nr_pages, struct zd_device **dev)
{
	size_t head = sizeof(struct example) + nr_pages * sizeof(bool);
	size_t bytes = (head + nr_pages * ZD_PAGE_SIZE + ~ZD_PAGE_MASK) & ZD_PAGE_MASK;
	struct example *ex;
	int ret;

	/* Not malloc: the heap may be managed memory, and a callback that touched
	 * it could wait for itself.  Shared memory never merges with other. */
	ex = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ex == MAP_FAILED)
		return -ENOMEM;
	ex->bytes = bytes;
	ex->memory = (char *)ex + head;
	pthread_mutex_init(&ex->lock, NULL);
	ex->dev = (struct zd_device){
		.ops = &example_ops, .name = "example", .nr_pages = nr_pages, .private_data = ex
	};
	ret = zd_device_register(&ex->dev);
	*dev = &ex->dev;		/* zd_device_unregister() ends it */
	if (ret)
		munmap(ex, bytes);
	return ret;
}

/* From here on: the device by its name, for `zonedev run --device` and zd_device_open_spec(). */

enum { EXAMPLE_SIZE };

/* The values are what example_keys asks for: checked, in its order. */
static int example_create(const struct zd_driver_value *values, struct zd_device **dev, char *err,
			  size_t errlen)
{
	uint64_t bytes = values[EXAMPLE_SIZE].number;
	int ret = example_device_create(bytes / ZD_PAGE_SIZE, dev);

	if (ret)
		snprintf(err, errlen, "example device: can't have %llu bytes: give a smaller size",
			 (unsigned long long)bytes);
	return ret;
}

static const struct zd_driver_key example_keys[] = {
	[EXAMPLE_SIZE] = {
		.name = "size", .type = ZD_KEY_SIZE, .min = ZD_DRIVER_MIN_BYTES,
		.help = "how much memory it has",
	},
	{ 0 }
};

static const struct zd_driver example_driver = {
	.size = sizeof(example_driver),		/* lets the struct grow later */
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_RUN,
	.name = "example",
	.summary = "an array, to copy the driver from",
	.example = "plugin:./example.so,size=1G",
	.keys = example_keys,
	.create = example_create,
};

ZD_PLUGIN(example_driver);
