/* SPDX-License-Identifier: MIT */
/*
 * drivers/file_lock.h - a file belongs to one device or region at a time.
 *
 * The lock is an open file description lock on all of the file (F_OFD_SETLK), not
 * flock(2): flock() of a block device is how udev and partitioning tools tell each other
 * to wait, for a moment and at any time, and has nothing to do with whose the data is.
 * The lock is the inode's, whatever path or hard link leads to it; it excludes a second
 * opening in this process as in others; and it excludes other programs that lock what
 * they use (qemu), as their locks exclude zonedev.
 *
 * A device has one inode for each of its nodes.  So a device that may be shared is opened by
 * the node that the kernel has made for it, if there is one; a block device that is
 * written is opened with O_EXCL besides, which goes by the device.
 */
#ifndef ZD_DRIVERS_FILE_LOCK_H
#define ZD_DRIVERS_FILE_LOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * zd_lock_file - lock @fd, open for writing, or for reading with @shared, until its last
 * duplicate is closed.  A lock that another program has for a moment is waited for, half a
 * second at most.
 * Returns 0, also on a file system without locks; -EBUSY.  Blocks.  Any thread.
 */
int zd_lock_file(int fd, bool shared);

/* zd_unlock_file - call it before @fd is closed: a forked child may have a duplicate. */
void zd_unlock_file(int fd);

/* The bytes that are locked: all but the last, by which the record of a region is locked. */
#define ZD_LOCK_BYTES	(INT64_MAX - 1)

/*
 * zd_open_exclusive - open(2) a block device with O_EXCL, waiting as zd_lock_file() does.
 * The descriptor or -errno.  Blocks.  Any thread.
 */
int zd_open_exclusive(const char *path, int flags);

/*
 * zd_device_node - the kernel's own node of the block or character device @path, written to
 * @name; or @path itself, where that is no device or the kernel has no node.  May block.
 */
const char *zd_device_node(const char *path, char *name, size_t len);

#endif
