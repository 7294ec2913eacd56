/* SPDX-License-Identifier: MIT */
/*
 * drivers/pmem/device_medium.h - a medium that is device memory: opened so that it is safe to
 * use (device_medium.c), and its pages copied (device_copy.c).
 */
#ifndef ZD_DRIVERS_PMEM_DEVICE_MEDIUM_H
#define ZD_DRIVERS_PMEM_DEVICE_MEDIUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"
#include "drivers/media/media.h"

/*
 * @page_lock: that of the media's struct zd_media_pages, a leaf.  @told_cut: __atomic.
 * @empty_fd: a file without a byte, for poison; -1: none was injected.  Guarded by @empty_lock, a
 * leaf.
 */
struct zd_device_medium {
	struct zd_media media;
	char name[64];			/* of the device */
	bool told_cut;
	struct zd_mutex page_lock;
	struct zd_mutex empty_lock;
	int empty_fd;
};

/* --- device_medium.c: the thread that creates or destroys the device; they block --- */

/* Open, lock and map a medium, as zd_pmem_device_create() has it.  0; or -errno and a line for the
 * user. */
int zd_device_medium_open(const char *path, uint64_t bytes, unsigned int flags,
			  struct zd_device_medium **medium, char *err, size_t errlen);
/* Leave no data in a medium that outlives the device. */
void zd_device_medium_clear(struct zd_device_medium *medium);
/* Close and free it. */
void zd_device_medium_close(struct zd_device_medium *medium);

/* Its pages may have to wait for a disk. */
static inline bool zd_device_medium_waits(const struct zd_device_medium *medium)
{
	return medium->media.persist == ZD_PMEM_PERSIST_PAGE;
}

/* --- device_copy.c: any thread; they block as the medium does --- */

/* Is the page known to be lost?  Doesn't block.  @medium: void, for zd_pool_alloc_good(). */
bool zd_device_medium_is_bad(void *medium, uint64_t index);
/* 0; -EIO: the page is lost; -EFAULT: @buf is. */
int zd_device_medium_read(struct zd_device_medium *medium, uint64_t index, void *buf);
/* 0; -ENOSPC: there is no room for this page, or its place is broken; -EIO: the file was cut;
 * -EFAULT. */
int zd_device_medium_write(struct zd_device_medium *medium, uint64_t index, const void *buf);
/* zd_pmem_device_inject_poison() */
int zd_device_medium_poison(struct zd_device_medium *medium, uint64_t first, uint64_t nr);

#endif
