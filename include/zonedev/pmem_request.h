/* SPDX-License-Identifier: MIT */
/*
 * zonedev/pmem_request.h - a region of persistent memory as a block device: requests, and
 * the queue that they pass.
 *
 * zonedev/pmem.h opens regions, and says what is durable when, what becomes of media that
 * fail, and what "parent only" means here.
 */
#ifndef ZONEDEV_PMEM_REQUEST_H
#define ZONEDEV_PMEM_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <zonedev/page.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define ZD_SECTOR_SHIFT	9
#define ZD_SECTOR_SIZE	512UL
#define ZD_PAGE_SECTORS	(ZD_PAGE_SIZE / ZD_SECTOR_SIZE)

struct zd_pmem;

/* --- requests --- */

/* 0, what a forgotten op is, is none. */
enum zd_pmem_op {
	ZD_PMEM_READ = 1,
	ZD_PMEM_WRITE,
	ZD_PMEM_FLUSH,		/* what was completed before is durable after */
	ZD_PMEM_WRITE_ZEROES,	/* reads as zeros after; holes are punched */
	ZD_PMEM_DISCARD,	/* content is of no use any more: reads as zeros, or
				 * as before where the media can't punch holes */
};

#define ZD_PMEM_FUA	(1u << 0)	/* WRITE, WRITE_ZEROES, DISCARD: durable when done */
#define ZD_PMEM_NOUNMAP	(1u << 1)	/* WRITE_ZEROES: keep the storage allocated */
#define ZD_PMEM_NOWAIT	(1u << 2)	/* -EAGAIN instead of waiting for a frozen queue */

/*
 * struct zd_pmem_request - one request.
 *
 * @flags: ZD_PMEM_FUA, ZD_PMEM_NOUNMAP, ZD_PMEM_NOWAIT.
 * @sector, @nr_sectors: where; both 0 for FLUSH.
 * @iov, @nr_iov: READ, WRITE: nr_sectors * 512 bytes in all, of any alignment.
 * @end_io: called exactly once, when the request is done, with 0 or -errno;
 *	from then on the request is the caller's again (end_io may free it or
 *	submit it again).  At present: before zd_pmem_submit() returns, in the
 *	same thread.  Must not freeze the queue.
 * @private_data: the caller's.
 * @bad_sector: set with -EIO from READ and WRITE: the first sector that failed.
 *
 * Its size is fixed for ever: users embed it.
 *
 * Errors:
 * -EINVAL: unknown op or flags, iov too short or too long; a FLUSH with sectors;
 * -ENOSPC: beyond the end of the region, or (WRITE) a sparse file that
 *	couldn't grow;
 * -EROFS: opened read only;
 * -EIO: media failed, were truncated, or couldn't be written back; the
 *	sectors before @bad_sector were transferred, some after it too;
 * -EFAULT: the caller's buffer raised SIGBUS;
 * -EAGAIN: ZD_PMEM_NOWAIT; -ENODEV: the region is being, or was, removed.
 */
struct zd_pmem_request {
	enum zd_pmem_op op;
	unsigned int flags;
	uint64_t sector;
	uint64_t nr_sectors;
	const struct iovec *iov;
	unsigned int nr_iov;
	void (*end_io)(struct zd_pmem_request *req, int error);
	void *private_data;
	uint64_t bad_sector;
};

/*
 * zd_pmem_submit - start a request: enters the queue (waits while it is frozen),
 * does it, leaves the queue, calls end_io.  Errors go to end_io, too.
 *
 * Requests that overlap and are in flight at the same time are done in any
 * order; without BTT, two writes may even mix.
 * Context: may block, parent only.
 */
void zd_pmem_submit(struct zd_pmem *pmem, struct zd_pmem_request *req);

/* zd_pmem_rw - one request with one buffer (NULL where there is none), to its
 * end.  0 or -errno as above.  Context: may block, parent only. */
int zd_pmem_rw(struct zd_pmem *pmem, enum zd_pmem_op op, unsigned int flags, uint64_t sector,
	       uint64_t nr_sectors, void *buf);

/* What zd_pmem_extent() says of a run of sectors. */
#define ZD_PMEM_EXTENT_HOLE	(1u << 0)	/* no storage */
#define ZD_PMEM_EXTENT_ZERO	(1u << 1)	/* reads as zeros */

/*
 * zd_pmem_extent - what @sector is, and how many sectors from it on, @nr_sectors
 * at most, are the same: for NBD block status.
 * Returns how many (> 0) and sets @flags; -ENOSPC beyond the end; -ENODEV; -EIO.
 * Context: may block, parent only.
 */
int64_t zd_pmem_extent(struct zd_pmem *pmem, uint64_t sector, uint64_t nr_sectors,
		       unsigned int *flags);

/* --- the queue --- */

/*
 * zd_pmem_queue_enter - hold the queue open: until zd_pmem_queue_exit() no freeze
 * completes and no removal either.  Mirrors Linux blk_queue_enter().
 *
 * The queue's usage counter is the reference of the region's pagemap: a thread that has
 * entered holds the pagemap, so that removal waits for requests and for pages with one
 * count.  (Linux 4.12 did the same, and gave it up later, since a freeze then
 * waited for pinned pages.  Here a freeze counts the entered threads apart from the pages.)
 *
 * @flags: 0 or ZD_PMEM_NOWAIT.  Returns 0; -EINVAL: other flags; -EAGAIN: frozen, and NOWAIT;
 * -ENODEV: removed.  Not needed for zd_pmem_submit(), and no request may be submitted in
 * between: it would wait for a freeze that waits for the caller.
 * Context: may block (while the queue is frozen), parent only; exit: any thread.
 */
int zd_pmem_queue_enter(struct zd_pmem *pmem, unsigned int flags);
void zd_pmem_queue_exit(struct zd_pmem *pmem);

/*
 * zd_pmem_queue_freeze - no request is in the queue when it returns, and none
 * enters before zd_pmem_queue_unfreeze().  Nests.  Mirrors blk_mq_freeze_queue()
 * and its parts: freeze_start doesn't wait; freeze_wait returns false if the
 * queue was not empty after @ms milliseconds (it is frozen all the same).
 * Pages that are held don't count.  Freezing doesn't prevent removal.
 * Context: may block, parent only; not between enter and exit, nor from end_io.
 */
void zd_pmem_queue_freeze(struct zd_pmem *pmem);
void zd_pmem_queue_freeze_start(struct zd_pmem *pmem);
bool zd_pmem_queue_freeze_wait(struct zd_pmem *pmem, unsigned int ms);
void zd_pmem_queue_unfreeze(struct zd_pmem *pmem);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
