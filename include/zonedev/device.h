/* SPDX-License-Identifier: MIT */
/*
 * zonedev/device.h - what a driver gives to zonedev, and all that it sees.
 *
 * A device is a set of pages that the program's CPU can't address (or is not
 * meant to): GPU memory, a file, another machine.  A driver fills a
 * struct zd_device_ops, calls zd_device_register(), and from then on answers
 * four requests: give me free pages, copy these pages, what has finished, and
 * "this page is free again".  drivers/example/ has the ones to copy, one for each way to
 * complete a batch; drivers/ram/ram.c is the reference.
 *
 * Three ways to complete.  A driver that copies at once calls zd_io_complete() inside ->submit.
 * A driver that polls something by itself (a completion queue with a descriptor) has ->reap and
 * ->event_fd, and calls zd_io_complete() there.  A driver that is told by a thread of its own, or
 * of a library, sets ZD_DEVICE_ASYNC and calls zd_io_complete_any() from that thread.  Drivers
 * that can only block are written as reads and writes (zonedev/blocking.h).
 *
 * Threads and forks.  `zonedev run` goes on in a forked copy of itself when the program leaves
 * processes behind, with no batch in flight; the first process ends soon.  The copy has none of a
 * driver's threads.  A driver starts them in ->submit when getpid() has changed, makes their
 * locks anew, keeps no state in memory that both processes share, and begins nothing in the
 * first process by itself (drivers/example/example_async.c; the blocking adapter does all that).
 *
 * Thread rules.  ->submit, ->reap and ->direct_access of one device are called
 * by one thread at a time (the server's).  ->alloc_pages and ->page_free may be
 * called by any thread, at the same time as anything else: guard them with a
 * lock that is never held across a system call that can block on the program.
 *
 * None of the callbacks may touch managed memory, or, when the server lives in
 * the program (zd_mm_open), take a lock that a thread of the program may hold while it
 * touches managed memory: that thread may be the one that waits for this very page.
 *
 * malloc() has such locks.  A driver none of whose code calls malloc, free or a function that
 * does (as most libraries do) says so by ZD_DEVICE_NO_MALLOC.  Others:
 *
 *	under zonedev run	may call malloc as they like, for it isn't the program's.
 *	in a program (zd_mm)	must have ZD_DEVICE_ASYNC, and may call malloc in threads of their
 *				own, for which no callback waits; never in a callback.  (The
 *				blocking adapter's workers are such threads.)  Any other driver
 *				is refused at its first use: -EOPNOTSUPP.
 *
 * From the first use of a driver whose threads may call malloc, the pages of malloc's own arenas
 * stay in RAM (zd_migrate_result.protection), or come back to it: small blocks, and what lies
 * beside them.  A block that malloc mapped by itself, as it does with large ones, is taken.
 * Where malloc's own memory can't be told from other memory the driver is refused, too: malloc
 * isn't glibc's, glibc.malloc.hugetlb asks for huge pages, or brk(2) had no room.  A program
 * that registers mappings of its own only says ZD_MM_OWN_MAPPINGS (zonedev/mm.h), and gives
 * them to any device.
 */
#ifndef ZONEDEV_DEVICE_H
#define ZONEDEV_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zonedev/page.h>
#include <zonedev/pagemap.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_device;
struct zd_device_async;
struct zd_device_host;
struct zd_device_io;

/*
 * One page of a batch.  @buf: ZD_PAGE_SIZE bytes, ZD_PAGE_SIZE-aligned: memory of the
 * server's, or, if the driver has ->p2p_distance, a peer's.
 *
 * Where pages that are beside each other in a batch have pfns in a row, so lie their buffers: if
 * page[i + 1].pfn == page[i].pfn + 1, then page[i + 1].buf == page[i].buf + ZD_PAGE_SIZE, and
 * one transfer does for both.  That holds for every batch of a migration or a fault; not for
 * those of zd_p2pdma_copy() (zonedev/p2pdma.h), whose buffers may be several peers'.
 *
 * @error: set by the driver before it completes the batch: 0 or -errno for this page alone;
 * -EINPROGRESS until then, and a page that is left so was not copied.
 *
 *	-EAGAIN		the device can't be reached now, and may be later.  On its way out, the
 *			page stays in RAM; on its way home, it stays on the device, and the
 *			fault that needs it asks again, after a pause of 1 to 100 ms, for as
 *			long as that is the answer.  No page is lost.  A driver whose user gave
 *			it a time (`timeout=`) answers so until that is over, or simply holds
 *			the batch, and then gives an error for good.
 *	-ENOSPC		to the device only: it has no room for this page.  The page goes
 *			elsewhere, or stays; the others aren't held up.
 *	any other	for good.  On its way out, the page stays in RAM.  On its way home,
 *			it is lost (SIGBUS), but only if a thread needs it: else it stays, and
 *			can be asked for again.
 *
 * The struct's size is fixed for ever: batches are arrays of it.
 */
struct zd_io_page {
	zd_pfn_t pfn;
	void *buf;
	int error;
};

/* 0, which is a forgotten direction, is neither: drivers fail such a batch's pages. */
enum zd_io_dir {
	ZD_TO_DEVICE = 1,	/* buf -> device page */
	ZD_FROM_DEVICE = 2,	/* device page -> buf */
};

/*
 * struct zd_device_io - a batch of pages to copy.
 *
 * Owned by the driver from ->submit until it calls zd_io_complete() or, with ZD_DEVICE_ASYNC,
 * zd_io_complete_any(), which it does exactly once, when no page of the batch is in flight any
 * more.  ->done is called in the thread that drives the device, may free the batch and may
 * submit others.
 *
 * @nr: at most ZD_IO_PAGES_MAX.  A batch may be in the driver's hands for as long as the device
 * takes: only what lies on the device waits for it.  A page on its way out that a thread needs
 * comes back from its buffer meanwhile, which stays as it is until ->done.  After 10 s without
 * an answer the log says so.
 *
 * @driver and @pending are the driver's scratch space while it owns the batch.  The
 * struct's size is fixed for ever.
 */
#define ZD_IO_PAGES_MAX	512

struct zd_device_io {
	enum zd_io_dir dir;
	unsigned int nr;
	struct zd_io_page *pages;
	void (*done)(struct zd_device_io *io);
	void *owner;		/* the submitter's */
	void *driver;
	unsigned int pending;
	struct zd_device_io *next;	/* the driver's, for its queues */
};

#define ZD_DEVICE_OPS_VERSION 1

/* In zd_device_ops.flags. */
#define ZD_DEVICE_NO_MALLOC	(1u << 0)	/* see "malloc() has such locks" above */
#define ZD_DEVICE_ASYNC		(1u << 1)	/* completes by zd_io_complete_any() alone */
#define ZD_DEVICE_FLAGS		(ZD_DEVICE_NO_MALLOC | ZD_DEVICE_ASYNC)	/* all that there are */

/*
 * struct zd_device_stat - a number that a driver tells of itself, for reports and `zonedev stat`.
 *
 * @name: of letters, digits and _, begins small: "ratio", "bytes_stored".  A string that lives as
 * long as the device.  The struct's size is fixed for ever.
 */
struct zd_device_stat {
	const char *name;
	double value;
};

/*
 * struct zd_device_ops - the driver's side.
 *
 * @size: sizeof(struct zd_device_ops) as the driver was compiled; the struct
 *	only grows, at the end.  @version: ZD_DEVICE_OPS_VERSION.
 *
 * @alloc_pages: take up to @nr free pages and store their pfns, contiguous
 *	runs ascending where possible (a run is one copy instead of many).  The
 *	pages stay free in the sense of their count (0): the caller (zonedev, or a
 *	program that is to call zd_migrate_vma_setup() or zd_p2pdma_copy()) calls
 *	zd_page_init() on each before use, or gives them back by ->unalloc_pages.
 *	Returns how many were stored; 0: no page is free now (full, or the last
 *	ones are just being given back to the medium); or -errno.
 * @unalloc_pages: give back pages that ->alloc_pages gave and that were never
 *	initialised; they may have been written to.
 * @page_free: the last reference to @page was put; it belongs to the driver
 *	again.  Must not block.  Each page is told of by itself, by the thread that put it:
 *	that can't wait for others, since the device may be removed as soon as its last page
 *	is free.  But they come many in a row: pages that came home after the program goes on,
 *	up to 64, and those of a range that was unmapped all at once.  A driver that has to
 *	tell its medium (TRIM) notes them and does so later, for runs of pages that are still
 *	free then: from ->reap, or a thread of its own.
 * @submit: start copying @io.  Must not block.  It can't fail: a batch that can't be started
 *	is completed, each page with its error.  Runs on the server's stack, of which 64 KiB
 *	may be used (of ->reap and the other callbacks, too).
 * @reap: finish what has completed, calling ->done.  With @wait, block until
 *	at least one batch is done, if any is in flight.  Returns the number of
 *	batches done.  NULL for a driver that completes everything in ->submit, or by
 *	zd_io_complete_any().
 * @event_fd: a descriptor that polls readable when ->reap has work to do, or
 *	-1.  Called once, at registration.
 * @direct_access: where the server can read and write the page by plain loads
 *	and stores, ZD_PAGE_SIZE bytes; consecutive pfns need not be consecutive
 *	addresses.  NULL op or NULL result: use ->submit.  A page whose memory
 *	can't be read (EFAULT: its file was truncated) counts as a read error.  A page whose
 *	memory can't be written to (SIGBUS) is given to ->submit; that is for zonedev's own
 *	drivers, which install the handler (zonedev/pmem.h), and another driver mustn't
 *	give such memory out.
 * @destroy: the device is unregistered, none of its pages is live, no batch is in the driver's
 *	hands, and no callback runs or will.  In the thread that unregisters, without a lock of
 *	zonedev's: may block, and may free @dev.
 * @p2p_distance: how far the memory [addr, addr + len), a peer's (zonedev/p2pdma.h), is
 *	from the device.  0: ->submit loads and stores it; 1 or more: the device's own
 *	transfers reach it; in both cases without another copy in RAM, and memory that
 *	is no longer there fails the page (-EIO, -EFAULT).  -1: it can't be a batch's
 *	buffer, or only by way of RAM.  Any thread, at any time.  NULL: -1.
 * @flags: ZD_DEVICE_...; others are refused.
 * @ram_bytes: how much RAM the contents of the device's pages take now, for a device that keeps
 *	them there (compressed, say): it counts inside `zonedev run --ram`.  Called often, by the
 *	server's thread: one load.  NULL: none.
 * @stats: store up to @nr of the driver's own statistics; returns how many there are, which may
 *	be more than @nr.  Any thread, at any time; must not block.  NULL: none.
 * @resize: from now on give out pages with an index below @nr_pages only, which is at most
 *	dev->nr_pages; pages above that are live or on their way may be read, written and freed
 *	as before.  0 or -errno, and nothing has changed; giving more pages again that it has
 *	had must not fail.  By a thread of zd_device_resize(), at the same time as any other
 *	callback but itself.  May block.  NULL: the device can't be resized.
 */
struct zd_device_ops {
	size_t size;
	uint32_t version;
	int (*alloc_pages)(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns);
	void (*unalloc_pages)(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns);
	void (*page_free)(struct zd_device *dev, struct zd_page *page);
	void (*submit)(struct zd_device *dev, struct zd_device_io *io);
	int (*reap)(struct zd_device *dev, bool wait);
	int (*event_fd)(struct zd_device *dev);
	void *(*direct_access)(struct zd_device *dev, zd_pfn_t pfn);
	void (*destroy)(struct zd_device *dev);
	int (*p2p_distance)(struct zd_device *dev, const void *addr, size_t len);
	uint64_t flags;
	uint64_t (*ram_bytes)(struct zd_device *dev);
	int (*stats)(struct zd_device *dev, struct zd_device_stat *stats, unsigned int nr);
	int (*resize)(struct zd_device *dev, uint64_t nr_pages);
};

/*
 * struct zd_device - embedded by the driver in its own struct; zero it, set
 * the first four members, register it.  The rest is zonedev's.
 */
struct zd_device {
	const struct zd_device_ops *ops;
	const char *name;	/* for logs; must outlive the device */
	uint64_t nr_pages;
	void *private_data;
	/* zonedev's */
	struct zd_pagemap pgmap;
	int event_fd;
	void *server;		/* the one server it is attached to, or NULL */
	uint32_t submit_lock;	/* of a thread that submits while there is no server */
	const struct zd_device_host *host;	/* for removal; set with the first server */
	uint64_t deadline_ns;	/* of a removal; 0: none */
	const struct zd_device_ops *driver_ops;	/* see pages/device.c; NULL: the same */
	struct zd_device_async *async;	/* see pages/device_async.c; NULL: completes by ->done */
	uint64_t nr_usable;	/* __atomic: see zd_device_resize() */
	uint64_t reserved_[1];	/* room: the size is fixed for ever, drivers embed it */
};

/*
 * zd_device_register - describe the device's pages (one DEVICE_PRIVATE pagemap
 * of @dev->nr_pages pages) and make it usable.
 *
 * Returns 0; -EINVAL for a bad ops struct or no pages; -ENOSPC when the pfn
 * space is full; -ENOMEM.
 * Context: may block, fork-safe.
 */
int zd_device_register(struct zd_device *dev);

/*
 * zd_device_unregister - take the device away; calls ->destroy.
 *
 * New pages can't be had from the moment of the call.  Pages of managed memory
 * that are on the device go to other devices of their zd_mm that have room, as far as these
 * have ZD_DEVICE_NO_MALLOC or @dev hasn't, or come home; those on their way to it go back, while the
 * program goes on; then the call waits until all other references to the device's
 * pages are put.  Nothing is forced.  After 10 s the log says what it waits for.
 *
 * Returns 0; -ENOMEM: RAM ran out, or -EIO: the device can't read a page: the
 * removal is called off, the device stays, what is on it stays on it, and it can
 * be used as before (also when an earlier call had timed out).  -EAGAIN: the same, as the device
 * can't be reached now (struct zd_io_page).  A page that
 * can't be read is lost when a thread needs it (zonedev/mm.h), or given up with
 * munmap() or MADV_DONTNEED; then the page holds the device no more.
 * -EBUSY: another thread is removing or resizing it; -EINVAL: not registered (any more; @dev
 * is then only compared), or, while a zd_mm uses it, called from a forked child or
 * from a driver's callback on the server's thread; -EDEADLK: from inside a
 * page_free.
 * Context: may block, fork-safe, but as said.
 */
int zd_device_unregister(struct zd_device *dev);

/*
 * zd_device_unregister_timeout - the same, for about @ms milliseconds.
 *
 * -ETIMEDOUT: some pages are still held, or the device doesn't answer: @out (may
 * be NULL) says how many and which.  The device stays usable for those; nothing
 * new goes to it, and what it answers later lands as ever.  Call either form
 * again to go on.
 * Context: as zd_device_unregister().
 */
int zd_device_unregister_timeout_sized(struct zd_device *dev, unsigned int ms,
				       struct zd_pagemap_holders *out, size_t size);

static inline int zd_device_unregister_timeout(struct zd_device *dev, unsigned int ms,
					       struct zd_pagemap_holders *out)
{
	return zd_device_unregister_timeout_sized(dev, ms, out, sizeof(*out));
}

/*
 * zd_device_resize - from now on use only the first @nr_pages pages of the device.
 *
 * A device can shrink, and grow again: at most to dev->nr_pages, which was set when it was
 * registered and is the room that it has in the pfn space.  It begins with all of them.  (A
 * device that may grow is registered with what it may become, and shrunk at once.)
 *
 * Growing takes effect at once.  Shrinking, pages above @nr_pages are given out no more, those that
 * hold managed memory come home while the program goes on, and the call waits until none of
 * them is held.  Nothing is forced.
 *
 * Returns 0; -EOPNOTSUPP: the driver has no ->resize; -EINVAL: 0 or too many pages, not
 * registered, or, while a zd_mm uses it, called from a forked child or from a driver's
 * callback; -EBUSY: another thread is resizing or removing it; -ENODEV: its removal has begun;
 * what ->resize returned; or, as of zd_device_unregister(), -ENOMEM, -EIO, -EAGAIN: not all
 * pages could come home.  After an error the device is as large as it was, and what has come
 * home is home.
 * Context: may block, fork-safe, but as said.
 */
int zd_device_resize(struct zd_device *dev, uint64_t nr_pages);

/*
 * zd_device_resize_timeout - the same, for about @ms milliseconds.
 *
 * -ETIMEDOUT: some pages above @nr_pages are still held, or on their way: @out (may be NULL) says how
 * many and which (nr_refs is 0).  The device is as large as it was.
 * Context: as zd_device_resize().
 */
int zd_device_resize_timeout_sized(struct zd_device *dev, uint64_t nr_pages, unsigned int ms,
				   struct zd_pagemap_holders *out, size_t size);

static inline int zd_device_resize_timeout(struct zd_device *dev, uint64_t nr_pages,
					   unsigned int ms, struct zd_pagemap_holders *out)
{
	return zd_device_resize_timeout_sized(dev, nr_pages, ms, out, sizeof(*out));
}

/* zd_device_usable_pages - how many pages of @dev are in use since the last zd_device_resize().
 * Context: any thread, fork-safe. */
uint64_t zd_device_usable_pages(const struct zd_device *dev);

/* zd_page_device - the device that @page, held, is a page of; NULL: another kind of page.
 * Context: any thread, fork-safe. */
struct zd_device *zd_page_device(const struct zd_page *page);

/* zd_device_page_index - @pfn's index in its device: 0 .. nr_pages - 1.
 * Context: signal-safe, fork-safe. */
static inline uint64_t zd_device_page_index(const struct zd_device *dev, zd_pfn_t pfn)
{
	return pfn - dev->pgmap.pfn;
}

/* zd_device_live_pages - the pages of @dev that are live now (a snapshot).  A page that a fault has brought home
 * may be live for a moment after the thread goes on, but not any more when the next
 * call on the zd_mm (zd_mm_get_stats(), say) returns.
 * Context: any thread, fork-safe. */
uint64_t zd_device_live_pages(const struct zd_device *dev);

/* zd_io_complete - complete a whole batch, whose pages have their results: calls io->done(io).
 * Context: in ->submit or ->reap. */
static inline void zd_io_complete(struct zd_device_io *io)
{
	io->done(io);
}

/*
 * zd_io_complete_any - complete a whole batch of @dev, which has ZD_DEVICE_ASYNC.
 *
 * What the caller has stored in the pages' results and buffers before is seen by io->done(),
 * which the thread that drives the device calls soon.  The batch isn't the driver's any more
 * when the call is made, and @dev may only be used while another batch is in flight, or pages
 * are live.  ->destroy comes after the last call has returned.
 * Context: any thread of the process that submitted the batch, also in ->submit.  Neither
 * blocks nor mallocs.
 */
void zd_io_complete_any(struct zd_device *dev, struct zd_device_io *io);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

/* The drivers that come with zonedev, and devices by their command-line form: programs that
 * were written when these stood here go on compiling. */
#include <zonedev/file.h>
#include <zonedev/ram.h>
#include <zonedev/spec.h>

#endif
