/* SPDX-License-Identifier: MIT */
/* zonedev/file.h - a file or block device as device memory. */
#ifndef ZONEDEV_FILE_H
#define ZONEDEV_FILE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_device;

/* Flags of zd_file_device_create(). */
#define ZD_FILE_FORCE	(1u << 0)	/* overwrite a file or block device that holds data */
#define ZD_FILE_KEEP	(1u << 1)	/* don't unlink a file that this call created */

/*
 * zd_file_device_create - a file or block device as device memory.
 *
 * @path: a regular file (created with mode 0600 if it isn't there, and
 * unlinked at once unless ZD_FILE_KEEP), or a block device (opened O_EXCL).
 * NULL: an unlinked file in $TMPDIR, or /var/tmp.  A file that was there is
 * made mode 0600, and locked (F_OFD_SETLK) against a second device.
 * @size: bytes, rounded down to whole pages; 0: the size of the block device
 * or of the file with data (ZD_FILE_FORCE), else what the file system has free
 * now.  A regular file is sparse: it grows as it is used, and holes are
 * punched where pages are freed, by ->reap, 256 KiB at a time.
 * Uses O_DIRECT and io_uring; buffered where the file system has no O_DIRECT,
 * pread and pwrite where io_uring is not to be had.
 *
 * A page that can't be read or written (-EIO, -ENOSPC) fails alone.  When
 * the file is truncated every page of it fails with -EIO from then on: the
 * device never reads as zeros.  A file that outlives the device is left
 * empty, and a block device with its first MiB zeroed.
 *
 * The creator may fork while no batch is in flight and go on in the child.
 *
 * Returns 0; -EEXIST: the file or block device (its first MiB) holds data and
 * ZD_FILE_FORCE was not given; -EBUSY: another device or program uses it; -EINVAL: no size;
 * -ENOTBLK: neither a file nor a block device; -ENOSPC: the block device is
 * smaller; -EACCES, -ENOENT... as the system says.
 * Context: may block, fork-safe.
 */
int zd_file_device_create(const char *path, uint64_t size, unsigned int flags,
			  struct zd_device **dev);

/* zd_file_device_mode - how @dev does its I/O, for reports: "io_uring, O_DIRECT".  The text is
 * valid as long as @dev; NULL: @dev isn't a file device.
 * Context: signal-safe, fork-safe. */
const char *zd_file_device_mode(const struct zd_device *dev);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
