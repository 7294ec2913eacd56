/* SPDX-License-Identifier: MIT */
/*
 * zonedev/pmem.h - persistent memory: a region of a file that is memory and a
 * block device at the same time.
 *
 *	pmem.h			what is promised; open, remove, close
 *	pmem_request.h		as a block device: requests, and their queue
 *	pmem_access.h		as memory: addresses
 *	pmem_badblocks.h	the sectors that have failed
 *	pmem_check.h		examined and mended, while it isn't open
 *
 * This header includes the others.
 *
 * A region lies in a regular file on any file system, in a file on a DAX mount,
 * in a block device (/dev/pmemN, or any other), in a device-dax node, or in a
 * memfd.  A region is mapped once, as a whole, shared; its pages are pages of an
 * FS_DAX pagemap.  Two ways lead to it:
 *
 *  - requests (zd_pmem_submit(), zd_pmem_rw()), in sectors of 512 bytes: a block
 *    device without a block layer, as drivers/nvdimm/pmem.c is in Linux;
 *  - addresses (zd_pmem_direct_access(), zd_pmem_dax()): loads and stores.
 *
 * What is promised when
 *
 *	A request that completed with 0 is seen by every later request and load.
 *	The request is *durable* (survives power loss) once a FLUSH that was submitted
 *	after it completed has completed with 0, or at once if it had
 *	ZD_PMEM_FUA.  How that is done depends on what is below (struct
 *	zd_pmem_info.persist); zonedev-pmem(7) has the table.  Against the death
 *	of the process, kill -9 included, a completed write is safe at once.
 *	After a FLUSH, FUA or persist that could not write something back, all of
 *	them fail, until the region is opened again (by zd_pmem_open();
 *	not by zd_pmem_reopen(), for those that still use it): the kernel may forget
 *	what it failed to write back, and a later success would say nothing about
 *	that.  Removal tells of it, too.  (After one that found
 *	the file truncated they succeed when the file has its length again: what was
 *	lost is in the list of bad blocks.)
 *	ZD_PMEM_FUA and zd_pmem_persist() write back the pages of their own range,
 *	and what the file system must know to find them; a FLUSH everything.
 *	With ZD_PMEM_BTT (btt=on) each aligned block of struct
 *	zd_pmem_info.atomic_bytes is written as a whole or not at all, whatever
 *	happens, and every completed write is durable.  Without it a write
 *	that power loss interrupts may be torn at 8 bytes.
 *
 * Media that fail
 *
 *	A page that raises SIGBUS under a request (the file was truncated, the
 *	medium is poisoned) makes that request fail with -EIO and joins the list
 *	of bad blocks; later reads of the page fail without touching it.  A write of
 *	whole sectors clears them from the list, if the media take the write.  (Memory
 *	that the hardware reports as broken takes no write: its page has to be given
 *	back first, by punching a hole into the file (fallocate -p), or by replacing
 *	the file.)  With a BTT that holds for data; where the BTT's own tables can't
 *	be read, the blocks that they describe fail, and the region can't be opened
 *	anew before zd_pmem_check() has mended it.  A block of a BTT whose content
 *	isn't what was written there fails, too: each has a checksum.
 *	What lies beyond the end of a truncated file is never read as zeros.
 *	A hole heals, as zeros do: ZD_PMEM_DISCARD, ZD_PMEM_WRITE_ZEROES.
 *	The list outlives the process, and a loss of power: it is stored in an
 *	extended attribute of the file (user.zonedev.region; in PATH.zonedev
 *	where there is no room for an attribute) before a request fails for it.  The
 *	next open of the region reads the list, and says so by one line in the log.
 *	Sectors that are written leave the list at once for as long as the system runs,
 *	and for good with the next FLUSH.  The log tells of a list that can't be stored;
 *	a region whose list can't be read, or is damaged, can't be opened.
 *	With the list stands the size: a file that was made shorter while no process
 *	had it open isn't opened, unless it is asked for by that size; if it was made
 *	long again after such an open, its end is bad.  (A file that was made shorter
 *	and long again between two opens can't be told from one that was written to.)
 *	Devices have no such list: they can't be truncated, and what their
 *	medium can't read today it can't read tomorrow.
 *	Loads and stores by address raise SIGBUS in the thread that makes them: see
 *	zd_dax_access_guard() in zonedev/dax.h.
 *	The first open of a region installs a handler for SIGBUS, for the whole
 *	process, which hands signals that aren't zonedev's to the handler that was there.
 *	A program that sets its own handler later must do the same.  A thread that makes
 *	requests gets SIGBUS unblocked, for good: blocked, the signal would kill.
 *
 * Removal
 *
 *	zd_pmem_remove() takes the region away from its users: requests in
 *	flight finish, later ones fail with -ENODEV, mappings raise SIGBUS, and
 *	the removal waits for the holders of pages.  The handle stays valid, and
 *	every call on it fails with -ENODEV, until zd_pmem_close().
 *
 * Context of all calls: parent only: a child has no region, and must not use the handle.
 * (It may open regions.)  Several threads may make calls on a region at the same time, but
 * for zd_pmem_close().  Each call says whether it may block.
 */
#ifndef ZONEDEV_PMEM_H
#define ZONEDEV_PMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zonedev/page.h>
#include <zonedev/pagemap.h>
#include <zonedev/pmem_access.h>
#include <zonedev/pmem_badblocks.h>
#include <zonedev/pmem_check.h>
#include <zonedev/pmem_request.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_pmem;

/* --- open --- */

#define ZD_PMEM_CREATE		(1u << 0)	/* make the file if it isn't there */
#define ZD_PMEM_READONLY	(1u << 1)	/* requests that write: -EROFS */
#define ZD_PMEM_BTT		(1u << 2)	/* sector writes are atomic */
#define ZD_PMEM_FORCE		(1u << 3)	/* lay out a BTT over data; or open a
						 * BTT's media raw */

/*
 * struct zd_pmem_attr - how to open; zero is a good default for each.
 *
 * @size: sizeof(struct zd_pmem_attr).
 * @flags: ZD_PMEM_*.
 * @bytes: of media, a multiple of 4096: needed where the file is new or empty
 *	(which is then made that long, sparse); 0, or what it has, for one with
 *	content.  The size of a region never changes while it is open.
 * @btt_block: bytes that a BTT writes at once: 512 or 4096; 0: 4096.  Only
 *	when it is laid out; later the media know.
 */
struct zd_pmem_attr {
	size_t size;
	unsigned int flags;
	uint64_t bytes;
	uint32_t btt_block;
};

/*
 * zd_pmem_open - open a region.
 *
 * @path: a file (a new one gets mode 0600), a block device (O_EXCL), a device-dax
 * node, or "memfd:NAME": a new memfd, sealed against truncation, gone with the
 * handle.  @attr: may be NULL.  @pmem: result, ended by zd_pmem_close().
 * @err, @errlen: on failure, one line for the user that says what to do, without
 * prefix or newline.  May be NULL, 0.
 *
 * The region is locked (flock: shared if ZD_PMEM_READONLY, else exclusive)
 * against other opens, in this and other processes.
 *
 * Opening a region that was laid out by ZD_PMEM_BTT finishes or undoes what was
 * being written when it was last used.
 *
 * Returns 0, or
 * -EBUSY: it is open already, in whatever process (or the block device is in use);
 * -ENOENT: it isn't there, and ZD_PMEM_CREATE was not given; or ZD_PMEM_BTT and
 *	ZD_PMEM_READONLY, and there is no BTT on it;
 * -EINVAL: bad flags or sizes: no size for a new file, not a multiple of 4096,
 *	not the size that the file has, too small for a BTT;
 * -ENOTBLK: not something that can hold a region (a directory, a pipe...);
 * -EEXIST: BTT asked for, and the file holds data that isn't laid out so (of a
 *	block device only the first MiB is looked at);
 * -EMEDIUMTYPE: laid out by BTT, but opened without ZD_PMEM_BTT;
 * -EUCLEAN: a BTT whose tables are damaged: zd_pmem_check() mends what can be; or that was
 *	made by another version, or for another size; or (ZD_PMEM_READONLY) one that must be
 *	recovered first, by an open for writing; a file that is shorter than it was, and
 *	wasn't asked for by its size; a list of what it has lost that is damaged, or gone;
 * -EIO: the media fail; -ENOSPC, -EFBIG, -EACCES, -EROFS, -ENOMEM...: as the
 * system says.
 * Context: may block, fork-safe.
 */
int zd_pmem_open(const char *path, const struct zd_pmem_attr *attr, struct zd_pmem **pmem,
		 char *err, size_t errlen);

/* zd_pmem_open_fd - the same for the file that a descriptor (of a memfd, say) is
 * open on: the file is opened anew, through /proc/self/fd, and @fd stays the caller's.
 * Context: may block, fork-safe. */
int zd_pmem_open_fd(int fd, const struct zd_pmem_attr *attr, struct zd_pmem **pmem, char *err,
		    size_t errlen);

/* zd_pmem_memfd_name - NAME, where @path, as zd_pmem_open() takes it, is memfd:NAME; NULL: it is
 * the path of a file or a device.
 * Context: signal-safe, fork-safe. */
const char *zd_pmem_memfd_name(const char *path);

/* How a store becomes durable. */
enum zd_pmem_persist {
	ZD_PMEM_PERSIST_NONE,		/* never: memfd, tmpfs */
	ZD_PMEM_PERSIST_PAGE,		/* msync: through the page cache */
	ZD_PMEM_PERSIST_CACHE_LINE,	/* CLWB + SFENCE: DAX, MAP_SYNC */
	ZD_PMEM_PERSIST_BYTE,		/* SFENCE alone: DAX with eADR */
};

/*
 * struct zd_pmem_info - what a region is; constant while it is open.
 *
 * @nr_sectors: of the block device (with BTT fewer than the media have).
 * @media_bytes: mapped.
 * @atomic_bytes: the aligned unit that a write never tears: the BTT's block; 8
 *	without.
 * @pfn: of the first page of the media; @media_bytes / ZD_PAGE_SIZE follow it.
 * @has_holes: DISCARD and WRITE_ZEROES give storage back.
 *
 * Grows at the end: see zonedev.h, "Binary interface".
 */
struct zd_pmem_info {
	uint64_t nr_sectors;
	uint64_t media_bytes;
	uint32_t atomic_bytes;
	unsigned int flags;		/* ZD_PMEM_READONLY, ZD_PMEM_BTT */
	enum zd_pmem_persist persist;
	zd_pfn_t pfn;
	bool has_holes;
};

/* zd_pmem_get_info - 0.
 * Context: any thread, parent only. */
int zd_pmem_get_info_sized(const struct zd_pmem *pmem, struct zd_pmem_info *info, size_t size);

static inline int zd_pmem_get_info(const struct zd_pmem *pmem, struct zd_pmem_info *info)
{
	return zd_pmem_get_info_sized(pmem, info, sizeof(*info));
}

/* --- removal --- */

/*
 * struct zd_pmem_holders - what a removal that timed out waits for.
 *
 * @nr_requests: in the queue.  @pages: pages, and other holds of the pagemap
 * (those of requests not counted); pages.pfns are pfns: less info.pfn they are
 * page offsets.  Grows as @pages does, which stays the last: see zonedev.h, "Binary
 * interface".
 */
struct zd_pmem_holders {
	uint64_t nr_requests;
	struct zd_pagemap_holders pages;
};

/*
 * zd_pmem_remove - take the region away, in this order:
 *
 *	freeze the queue	later requests fail with -ENODEV
 *	kill the reference	new holds of pages fail with -ENODEV
 *	revoke			mappings of zd_dax_mmap() raise SIGBUS
 *	put the base reference
 *	wait			for requests in flight and for held pages
 *	exit			the pagemap is gone
 *	release the queue	threads that waited for an unfreeze have got -ENODEV
 *				already, at the freeze
 *	unmap the media, unlock and close the file
 *
 * Nothing is forced: a holder of a page goes on using it, and removal waits.  What was
 * written is made durable as by a FLUSH, if it can be.  When it returns 0 or -EIO the
 * region is gone, and the same path can be opened again.
 *
 * 0; -EIO: it is gone, but not all that was written is durable: this sync has failed, or
 * an earlier one had, or the file is short; -EBUSY: another thread is removing it;
 * -ENODEV: it was removed before; -EDEADLK: from inside a page_free.
 * Context: may block, parent only; not between enter and exit, not from end_io, not with
 * pages held.
 */
int zd_pmem_remove(struct zd_pmem *pmem);

/* zd_pmem_remove_timeout - the same, waiting at most @ms milliseconds for holders (and then
 * as long as it takes to make durable what was written).  -ETIMEDOUT: @out (may be NULL)
 * says what is held; new holds fail.  Call either form again to go on waiting. */
int zd_pmem_remove_timeout_sized(struct zd_pmem *pmem, unsigned int ms, struct zd_pmem_holders *out,
				 size_t size);

static inline int zd_pmem_remove_timeout(struct zd_pmem *pmem, unsigned int ms,
					 struct zd_pmem_holders *out)
{
	return zd_pmem_remove_timeout_sized(pmem, ms, out, sizeof(*out));
}

/*
 * zd_pmem_reopen - open a region that was removed once more, for its users of before:
 * the same file, by the path that it was opened by, read-only or with ZD_PMEM_BTT as it
 * was (a BTT that was opened raw by ZD_PMEM_FORCE: -EMEDIUMTYPE).  What was known to be
 * lost stays lost: bad blocks stay bad, and where something couldn't be written back,
 * at the removal or before, flushes go on failing.
 *
 * As zd_pmem_open(), and -EINVAL: @removed isn't; -ESTALE: there is another file now;
 * -ENOENT: none, or no BTT any more; -ENODEV: a memfd is gone for good.  The call doesn't
 * notice if the file was cut and made long again, in place, between removal and reopening.
 * @removed is left as it is, for the caller to close.
 * Context: may block, parent only.
 */
int zd_pmem_reopen(const struct zd_pmem *removed, struct zd_pmem **pmem, char *err, size_t errlen);

/* zd_pmem_close - remove the region, if it wasn't removed, and free the handle.  NULL is
 * fine.  Does nothing from inside a page_free.
 * Context: as zd_pmem_remove(), and no other call on the region may be running. */
void zd_pmem_close(struct zd_pmem *pmem);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
