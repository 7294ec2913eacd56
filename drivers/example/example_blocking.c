/* SPDX-License-Identifier: MIT */
/*
 * drivers/example/example_blocking.c - the driver to copy where a library can only block.
 *
 * Pages of a file, by pread and pwrite.  zonedev/blocking.h says what each call must do; free
 * pages, batches, threads, deadlines and statistics are zonedev's affair.
 *
 * example_blocking_device_create() makes the device.  A plugin also needs a struct zd_driver, which
 * names it (zonedev/driver.h): as at the end of example.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE	/* fallocate() */
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>
#include <zonedev/blocking.h>

static int fd_of(void *priv)
{
	return (int)(intptr_t)priv;
}

/* Several threads at the same time, each with pages of its own: pread and pwrite have no
 * position that they would share. */
static int example_read(void *priv, uint64_t first, unsigned int nr, void *buf)
{
	size_t len = nr * ZD_PAGE_SIZE, done = 0;

	while (done < len) {
		ssize_t n = pread(fd_of(priv), (char *)buf + done, len - done,
				  first * ZD_PAGE_SIZE + done);
		if (n <= 0)	/* the file's end, too: a page that is gone must not read as zeros */
			return n ? -errno : -EIO;
		done += n;
	}
	return 0;
}

static int example_write(void *priv, uint64_t first, unsigned int nr, const void *buf)
{
	size_t len = nr * ZD_PAGE_SIZE, done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd_of(priv), (const char *)buf + done, len - done,
				   first * ZD_PAGE_SIZE + done);
		if (n < 0)	/* -ENOSPC: these pages stay in RAM, or go to another device */
			return -errno;
		done += n;
	}
	return 0;
}

static int example_discard(void *priv, uint64_t first, uint64_t nr)
{
	return fallocate(fd_of(priv), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 first * ZD_PAGE_SIZE, nr * ZD_PAGE_SIZE) ?
		       -errno :
		       0;
}

static void example_close(void *priv)
{
	close(fd_of(priv));
}

static const struct zd_blocking_ops example_blocking_ops = {
	.size = sizeof(example_blocking_ops),	/* lets the struct grow later */
	.version = ZD_BLOCKING_OPS_VERSION,
	.read = example_read,
	.write = example_write,
	.discard = example_discard,
	.close = example_close,
};

int example_blocking_device_create(const char *path, uint64_t nr_pages, struct zd_device **dev)
{
	struct zd_blocking_attr attr = {
		.size = sizeof(attr), .name = "example_blocking", .nr_pages = nr_pages,
		.ops = &example_blocking_ops,
		.flags = ZD_DEVICE_NO_MALLOC,	/* nothing above calls malloc */
	};
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), ret = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, nr_pages * ZD_PAGE_SIZE))
		ret = -errno;
	attr.priv = (void *)(intptr_t)fd;
	if (!ret)
		ret = zd_blocking_device_create(&attr, dev);
	if (ret)
		close(fd);
	return ret;
}
