/* SPDX-License-Identifier: MIT */
/*
 * zonedev/pmem.h - persistent memory: a region of a file that is memory and a
 * block device at the same time.
 *
 * A region lies in a regular file on any file system, in a file on a DAX mount,
 * in a block device (/dev/pmemN, or any other), in a device-dax node, or in a
 * memfd.  A region is mapped once, as a whole, shared; its pages are pages of an
 * FS_DAX pagemap.  Two ways lead to it:
 *
 *  - requests (zonedev/pmem_request.h, included here), in sectors of 512 bytes: a block
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
#include <zonedev/pmem_request.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_pmem;
struct zd_dax;

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
int zd_pmem_open_fd(int fd, const struct zd_pmem_attr *attr, struct zd_pmem **pmem,
		    char *err, size_t errlen);

/* zd_pmem_memfd_name - NAME, where @path, as zd_pmem_open() takes it, is memfd:NAME; NULL: it is
 * the path of a file or a device.
 * Context: signal-safe, fork-safe. */
const char *zd_pmem_memfd_name(const char *path);

/* --- check --- */

#define ZD_PMEM_CHECK_LOOK	(1u << 0)	/* change nothing */
#define ZD_PMEM_CHECK_DATA	(1u << 1)	/* read every block, too */

/*
 * struct zd_pmem_check - what a check has found.
 *
 * @btt: there is a BTT; else the check saw only whether the file can be opened as a
 *	region.
 * @damaged: its tables were; @mended: and are right now, but for what is lost.
 * @nr_blocks, @block_bytes: of the region.
 * @nr_lost: blocks whose content is not known any more, by this damage or an earlier one:
 *	reads of them fail with -EIO until they are written.
 * @nr_bad: with ZD_PMEM_CHECK_DATA: blocks whose content can't be read, or isn't what was
 *	written: the same holds for these.
 */
struct zd_pmem_check {
	bool btt, damaged, mended;
	uint32_t block_bytes;
	uint64_t nr_blocks, nr_lost, nr_bad;
};

/*
 * zd_pmem_check - examine a region that no process has open, and mend it.
 *
 * @path: as for zd_pmem_open(), but for "memfd:".  @flags: ZD_PMEM_CHECK_*.  @say: told of
 * each finding, one line, without newline; may be NULL; @arg goes to it.  @check: result;
 * @size: sizeof(struct zd_pmem_check).
 *
 * A region without a BTT has nothing to mend.  The tables of a BTT tell the same several
 * times over: what is damaged is made anew from what isn't.  A block is mended only where
 * one content alone can be right; else it is lost, and the check says which.  A check that is
 * killed, or that a loss of power ends, can be made again.
 *
 * 0: examined, see @check; -errno: it can't be, as for zd_pmem_open(), with @err.  Needs
 * memory of some 50 bytes for each block of a damaged region.
 * Context: may block, fork-safe.
 */
int zd_pmem_check(const char *path, unsigned int flags, void (*say)(void *arg, const char *line),
		  void *arg, struct zd_pmem_check *check, size_t size, char *err, size_t errlen);

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

/* zd_pmem_get_info - @size: sizeof(*info).  0, or -EINVAL: too short.
 * Context: any thread, parent only. */
int zd_pmem_get_info(const struct zd_pmem *pmem, struct zd_pmem_info *info, size_t size);

/* --- addresses --- */

/*
 * zd_pmem_direct_access - the pages from @pgoff on, where they are mapped.
 * Mirrors Linux dax_direct_access().
 *
 * @pgoff: in pages, of the media.  @nr_pages: wanted.  @kaddr, @pfn (each may be
 * NULL): the first page's address and pfn; the others follow both.
 *
 * The pages are held: one reference each, put by zd_pmem_direct_release() or by
 * zd_put_page() page by page.  While they are held the region can't go away, and
 * their storage isn't punched out by DISCARD or WRITE_ZEROES (which zero them in
 * place).  Stores are made durable with zd_pmem_persist().
 *
 * Returns how many pages, > 0, fewer than wanted at the end of the region or
 * before a bad block; or -ERANGE: beyond the end; -EIO: @pgoff has a bad block, or
 * the file was truncated; -EOPNOTSUPP: BTT; -ENODEV; -EINVAL: @nr_pages < 1.  In a
 * read-only region the pages are mapped read-only.
 * Context: may block (while a hole is punched there; not for a frozen queue), parent only;
 * release: any thread.
 */
long zd_pmem_direct_access(struct zd_pmem *pmem, uint64_t pgoff, long nr_pages,
			   void **kaddr, zd_pfn_t *pfn);
void zd_pmem_direct_release(struct zd_pmem *pmem, zd_pfn_t pfn, long nr_pages);

/*
 * zd_pmem_persist - stores to [addr, addr + len) are durable when it returns 0; a @len of 0
 * does nothing.
 * The range lies in pages that the caller holds, at their address from
 * zd_pmem_direct_access().  CLWB and a fence on DAX, msync elsewhere.
 * -EINVAL: not in the region; -EIO: couldn't be written back, or truncated;
 * -ENODEV.
 *
 * zd_pmem_persist_range - the same by offset in the media, in bytes: for stores
 * through a mapping of zd_dax_mmap().
 *
 * Use these, and not msync(2) on an address from zd_pmem_direct_access(): the kernel tells of
 * a failed write-back once, and msync() would be told in the region's place.  Both calls work while
 * the region is being removed, for as long as it is held.
 * Context: may block, parent only.
 */
int zd_pmem_persist(struct zd_pmem *pmem, const void *addr, size_t len);
int zd_pmem_persist_range(struct zd_pmem *pmem, uint64_t offset, uint64_t len);

/*
 * zd_pmem_dax - the region for the functions of zonedev/dax.h: zd_dax_mmap() maps
 * it for the program (and for GUP, whose long-term pins it refuses: FS_DAX),
 * zd_dax_revoke() ends those mappings, zd_dax_access_guard() survives what the
 * media do.  Removal revokes them: the next access raises SIGBUS, never stale data.
 * Ended with the region, not by zd_dax_close().  NULL: BTT.  Unmap its mappings
 * before zd_pmem_close().
 * Context: any thread, parent only.
 */
struct zd_dax *zd_pmem_dax(struct zd_pmem *pmem);

/* --- bad blocks --- */

/*
 * The list of media sectors that failed; without BTT these are the sectors of
 * requests.  Mirrors badblocks_check() and friends.
 *
 * check: 0: none of them is bad; 1: @first_bad and @nr_bad (each may be NULL)
 * tell the first bad run within the range.
 * set: add; clear: remove, in the stored list as well (the log tells where that can't be
 * stored).  0 or -ENOMEM; -ENODEV: removed.
 * -EINVAL: not in the region.  After a removal the list is empty.
 * Context: check: any thread; set, clear: may block; parent only.
 */
int zd_pmem_badblocks_check(struct zd_pmem *pmem, uint64_t sector, uint64_t nr,
			    uint64_t *first_bad, uint64_t *nr_bad);
int zd_pmem_badblocks_set(struct zd_pmem *pmem, uint64_t sector, uint64_t nr);
int zd_pmem_badblocks_clear(struct zd_pmem *pmem, uint64_t sector, uint64_t nr);

/*
 * zd_pmem_inject_poison - for tests: the pages of media sectors [sector, sector +
 * nr) raise a real SIGBUS in the region's own mapping from now on, until a
 * request writes a whole sector of such a page (which heals the page; its other
 * sectors stay bad until they are written).  The pages join the list of bad blocks
 * when they are touched.  0; -EINVAL; -ENODEV; -ENOMEM.
 * Context: may block, parent only.
 */
int zd_pmem_inject_poison(struct zd_pmem *pmem, uint64_t sector, uint64_t nr);

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
int zd_pmem_remove_timeout_sized(struct zd_pmem *pmem, unsigned int ms,
				 struct zd_pmem_holders *out, size_t size);

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
