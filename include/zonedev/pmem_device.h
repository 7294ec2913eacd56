/* SPDX-License-Identifier: MIT */
/*
 * zonedev/pmem_device.h - persistent memory, or device-dax, as device memory.
 *
 * What zonedev/pmem.h opens as a region can be a device instead: its pages are then the
 * medium's own, mapped, and zonedev copies to and from them without a buffer in between.
 *
 * The device takes the medium as a region does (the lock, the list of bad blocks, guarded
 * access), and its rules:
 *
 *  - One user.  A file that is a region or a device already, in this or another process, is
 *    refused; while it is a device it can't be opened as a region.
 *  - A page with a bad block isn't given out.  A page that can't be read (-EIO) fails alone: an
 *    access that raises SIGBUS ends in an error, not in the process.  It is never zeros.
 *  - Removal never forces: zd_device_unregister() brings the pages home, waits for those that
 *    are held, and closes the medium last.
 *
 * What is stored is not made durable: it is worth nothing without the process whose memory it
 * is.  So nothing is flushed or synced, and there is no BTT; and what outlives the device is
 * left without data.
 *
 * By address, by copy, or by threads.  Memory (memfd:, a file in a tmpfs or on a DAX mount,
 * device-dax) is read and written where it is.  But a file that another process can cut by its name
 * reads as zeros where it was cut, which only a look at its length after the copy can tell: so
 * pages of a file in memory that was there before are copied by ->submit, and only those of one
 * that the device made, and which has no name any more, go by address.  On a disk (a file
 * elsewhere, a block device) a load or a store may have to wait for it: threads do the
 * copies (zonedev/blocking.h), and a device of zonedev/file.h, without the page cache in between, is
 * the better one.
 */
#ifndef ZONEDEV_PMEM_DEVICE_H
#define ZONEDEV_PMEM_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_device;

/* Flags of zd_pmem_device_create(). */
#define ZD_PMEM_DEVICE_FORCE	(1u << 0)	/* overwrite a medium that holds data */
#define ZD_PMEM_DEVICE_DAX	(1u << 1)	/* device-dax, or a file in its place */

/*
 * zd_pmem_device_create - persistent memory, or device-dax, as device memory.
 *
 * @path: as zd_pmem_open() takes it: a file (made with mode 0600 if it isn't there, and
 * unlinked at once), a block device (O_EXCL), a device-dax node, or memfd:NAME.  A file that
 * was there is made mode 0600.
 * @bytes: needed for a file that is made or empty, and for memfd:, a multiple of 4096; else 0,
 * or what is there.
 * @flags: with ZD_PMEM_DEVICE_DAX @path is a device-dax node, or a file whose length is a
 * multiple of 2 MiB, and is mapped at the alignment that the node demands, a file at 2 MiB.
 * @dev: result; ended by zd_device_unregister(), which leaves a file that outlives the device
 * full of holes, and of anything else the first MiB zeroed.
 * @err, @errlen: on failure, one line for the user, as zd_pmem_open() has it.
 *
 * The creator may fork while no batch is in flight and go on in the child.
 *
 * Returns 0; -EEXIST: the medium holds data (of one without holes the first MiB is looked at)
 * and ZD_PMEM_DEVICE_FORCE was not given, or (-EIO) it can't be told; -EBUSY: it is a region or a device already, or in use;
 * -EINVAL: bad flags or sizes; -ENOTBLK: nothing that can be a device; others as zd_pmem_open()
 * has them.
 * Context: may block, fork-safe.
 */
int zd_pmem_device_create(const char *path, uint64_t bytes, unsigned int flags,
			  struct zd_device **dev, char *err, size_t errlen);

/*
 * zd_pmem_device_inject_poison - for tests: the device's pages [page, page + nr) raise a real
 * SIGBUS from now on when they are read.  A page that is free is bad once it has been written
 * to, and isn't given out again.
 * 0; -EINVAL: not such a device, on a disk, or beyond its end; -EOPNOTSUPP: its mapping has larger
 * pages;
 * -ENOMEM.
 * Context: may block, fork-safe.
 */
int zd_pmem_device_inject_poison(struct zd_device *dev, uint64_t page, uint64_t nr);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
