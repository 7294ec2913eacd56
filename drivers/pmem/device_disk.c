/* SPDX-License-Identifier: MIT */
/*
 * A medium on a disk as device memory.
 *
 * Its pages are the page cache's, and a load or a store may have to wait until the kernel has
 * read or written some.  The server's thread must not, so the copies are the work of threads
 * (drivers/blocking/).
 */
#include "drivers/pmem/device.h"
#include "zonedev/blocking.h"

static int disk_read(void *medium, uint64_t first, unsigned int nr, void *buf)
{
	int rc = 0;

	for (unsigned int i = 0; i < nr && !rc; i++)
		rc = zd_device_medium_read(medium, first + i, (char *)buf + i * ZD_PAGE_SIZE);
	return rc;
}

static int disk_write(void *medium, uint64_t first, unsigned int nr, const void *buf)
{
	int rc = 0;

	for (unsigned int i = 0; i < nr && !rc; i++)
		rc = zd_device_medium_write(medium, first + i,
					    (const char *)buf + i * ZD_PAGE_SIZE);
	return rc;
}

static int disk_discard(void *medium, uint64_t first, uint64_t nr)
{
	struct zd_media *m = &((struct zd_device_medium *)medium)->media;

	if (m->has_holes)
		zd_media_punch(m, first * ZD_PAGE_SIZE, nr * ZD_PAGE_SIZE);
	return 0;
}

static void disk_close(void *medium)
{
	zd_device_medium_clear(medium);
	zd_device_medium_close(medium);
}

static const struct zd_blocking_ops disk_ops = {
	.size = sizeof(disk_ops),
	.version = ZD_BLOCKING_OPS_VERSION,
	.read = disk_read,
	.write = disk_write,
	.discard = disk_discard,
	.close = disk_close,
	.is_bad = zd_device_medium_is_bad,
};

int zd_pmem_device_on_disk(struct zd_device_medium *medium, struct zd_device **dev)
{
	const struct zd_blocking_attr attr = {
		.size = sizeof(attr),
		.name = medium->name,
		.nr_pages = medium->media.bytes / ZD_PAGE_SIZE,
		.flags = ZD_DEVICE_NO_MALLOC,
		.ops = &disk_ops,
		.priv = medium,
	};

	return zd_blocking_device_create(&attr, dev);
}
