/* SPDX-License-Identifier: MIT */
/*
 * zonedev/lz4.h - compressed RAM as a device.
 *
 * Each page is compressed with LZ4 when it goes out; pages that are one word of 8 bytes repeated
 * (zeros, say) take no more than that word.  A page of which less than an eighth would be saved
 * is answered -ENOSPC, as is each page once the device has all the RAM that it may take: such
 * pages go to another device, or stay where they are.
 *
 * What is stored is trusted as all RAM is: there is no checksum over it.
 *
 * Its statistics (zd_device_ops.stats): pages_compressed and pages_same, of one word, which are
 * there now; incompressible and no_room, how often a page was refused; bytes_stored, of the
 * compressed pages, and pool_bytes, the RAM that is there for them; ratio, of the pages' bytes to
 * all that they take, tables too; waste_percent, of pool_bytes what is no compressed byte; and
 * moves, pages that were moved to make the pool smaller.  waste_percent stays below 15, but for
 * pools of a few MiB, of which up to one MiB may be waste.
 */
#ifndef ZONEDEV_LZ4_H
#define ZONEDEV_LZ4_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_device;

#define ZD_LZ4_LEVEL_FAST	1	/* LZ4 as it is known */
#define ZD_LZ4_LEVEL_MAX	12	/* 2 to 12: LZ4HC: smaller, slower to store, as fast to load */

/*
 * zd_lz4_device_create - a device of compressed RAM.
 *
 * @max: the RAM that compressed pages may take, in bytes, 2 MiB to 1 TiB; 0: half of the
 * machine's.  It is taken as it is needed, and given back.  @level: ZD_LZ4_LEVEL_FAST to
 * ZD_LZ4_LEVEL_MAX; 0: ZD_LZ4_LEVEL_FAST.  @dev: result; owned by the caller, ended by
 * zd_device_unregister().
 *
 * The device has 16 times as many pages as @max; it is full when one of the two is reached.
 * Large batches are compressed by a thread of the device's own; its signals are blocked, and it
 * doesn't malloc.  In the child of a fork that goes on with the device there is no such thread,
 * and its server's thread does that work.
 *
 * Returns 0, -EINVAL (@max or @level), -ENOMEM, or -EAGAIN (no thread is to be had).
 * Context: may block and malloc.
 */
int zd_lz4_device_create(uint64_t max, int level, struct zd_device **dev);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
