/* SPDX-License-Identifier: MIT */
/*
 * zonedev.h - all of zonedev's public headers.
 *
 * Binary interface.  A program that was compiled against these headers runs with every
 * libzonedev.so.0 that has its version node (lib/zonedev.map; the loader says so where
 * it hasn't).  How a public struct may change is said at each:
 *
 *	fixed for ever	its size and members are compiled into programs, which embed it or
 *			make arrays of it.
 *	sized		it only grows, at the end.  Its first member @size, or the size that
 *			its call takes, is sizeof as the program was compiled.
 *
 * For a sized struct that a call fills, zd_CALL() is an inline function that passes sizeof
 * to zd_CALL_sized(), and that is the symbol in the library, for programs that look symbols
 * up by name or call from another language (libzonedev-ffi has zd_CALL(), too).  A newer
 * library fills as much as the program has room for; what a newer program has and an older
 * library doesn't know is 0.
 * A sized struct that a call reads may have members that the library doesn't know only
 * if they are 0: else -EINVAL.
 *
 * Context.  At each call stands where it may be made, in these words:
 *
 *	signal-safe	by any thread, also in a signal handler; doesn't wait
 *	any thread	but not in a signal handler; waits for short locks at most
 *	may block	as "any thread", but may wait for other threads, a device or a file
 *
 *	fork-safe	in a child of fork(), too, with what the child has from its parent
 *	parent only	by the process that opened the zd_mm, device or region, not by its
 *			children; what a call does there is said with it
 *
 * Any thread may fork at any time, whatever other threads are in the middle of.  A child of
 * _Fork() or a bare clone() may make the signal-safe calls alone.
 */
#ifndef ZONEDEV_H
#define ZONEDEV_H

#include <zonedev/page.h>
#include <zonedev/page_owner.h>
#include <zonedev/pagemap.h>
#include <zonedev/percpu_ref.h>
#include <zonedev/devm.h>
#include <zonedev/log.h>
#include <zonedev/static_key.h>
#include <zonedev/device.h>
#include <zonedev/blocking.h>
#include <zonedev/lz4.h>
#include <zonedev/ram.h>
#include <zonedev/file.h>
#include <zonedev/spec.h>
#include <zonedev/driver.h>
#include <zonedev/mm.h>
#include <zonedev/migrate.h>
#include <zonedev/gup.h>
#include <zonedev/dax.h>
#include <zonedev/p2pdma.h>
#include <zonedev/pmem.h>
#include <zonedev/pmem_access.h>
#include <zonedev/pmem_badblocks.h>
#include <zonedev/pmem_check.h>
#include <zonedev/pmem_device.h>
#include <zonedev/pmem_request.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* zd_version - the library's version, "0.1.0", a static string.
 * Context: signal-safe, fork-safe. */
const char *zd_version(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
