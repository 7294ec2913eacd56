/* SPDX-License-Identifier: MIT */
/*
 * The adapter for drivers that block (zonedev/blocking.h), inside.
 *
 * Mechanism.  ->submit puts a batch at the end of one of two lanes, reads or writes (lane.c).
 * A worker (worker.c) takes the next run of pages of a lane's first batch, calls the driver, and
 * stores the pages' results; whoever answers a batch's last page completes it by
 * zd_io_complete_any().  The watch (watch.c), a thread, answers what is late, and names calls
 * that don't return.
 *
 * Invariants, all under blocking->lock.  Of a batch in a lane, io->pending pages are not yet
 * answered, and io->driver is when the batch was submitted.  Only the first batch of a lane is
 * partly taken: lane->taken pages of it.  A page is taken by one worker, and answered once: by that
 * worker or, while worker->io is set and worker->copying isn't, by the watch, which clears
 * worker->io.  Until then the batch's memory is the worker's to use; with a deadline only while
 * it is copying.
 *
 * Late writes.  A write that was answered by the watch may still reach the device.  Its pages,
 * which the engine gives back at once, must not be given out again before: free_index() notes
 * them in worker->freed, and the worker frees them when the driver's call has returned.
 *
 * Holds.  A call into the driver holds the device's pagemap, so there is no call any more when
 * ->destroy comes.  The copy of a process that goes on after a fork has the holds and not the
 * calls: it puts them when it starts its own threads.
 *
 * Freed pages.  The words that have become idle (drivers/pool.h) are taken by the thread that
 * drives the device alone, in its ->reap.  A supervisor that goes on in a forked copy of itself
 * has its workers twice: those of the first process begin nothing new, since nobody drives the
 * device there.  What was being discarded in that moment stays out of use in the copy, which
 * can't know when the call has ended.
 *
 * Locks.  blocking->lock is held for loads and stores, and taken with no other.  pool->lock nests
 * inside nothing.
 */
#ifndef ZD_DRIVERS_BLOCKING_H
#define ZD_DRIVERS_BLOCKING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"
#include "base/lock.h"
#include "base/thread.h"
#include "drivers/pool.h"
#include "pages/ioq.h"
#include "zonedev/blocking.h"

enum { LANE_READ, LANE_WRITE, NR_LANES };

struct blocking_lane {
	struct zd_ioq q;
	unsigned int taken;		/* pages of the first batch */
	uint64_t queued;		/* pages that nobody has taken */
	/* what was answered */
	uint64_t calls, pages;
	uint64_t total_ns;
	struct zd_histogram latency;
};

enum blocking_work { WORK_NONE, WORK_READ, WORK_WRITE, WORK_DISCARD };

struct blocking_worker {
	struct zd_thread thread;
	struct blocking *b;
	char *bounce;			/* ZD_BLOCKING_RUN pages; NULL without a deadline */
	enum blocking_work work;
	uint64_t first, nr;		/* pages of the device */
	struct zd_device_io *io;	/* NULL: a discard, or the watch has answered */
	unsigned int slot;		/* of @first in io->pages */
	bool copying;			/* between the batch's memory and @bounce */
	uint64_t freed;			/* late write: a bit for each page that was freed meanwhile */
	uint64_t begun_ns;
	bool told;			/* that the call takes long */
};

struct blocking {
	struct zd_device dev;
	struct zd_device_ops device_ops;
	struct zd_blocking_attr attr;	/* with all that the caller's has, and no 0 for threads */
	struct zd_blocking_ops ops;
	struct zd_pool pool;
	struct zd_process process;	/* whose threads there are */

	struct zd_mutex lock;		/* of all that follows, and the workers' calls */
	struct blocking_lane lane[NR_LANES];
	unsigned int reads_in_row;	/* while writes waited */
	unsigned int nr_slow;		/* workers that write or discard */
	uint64_t trim_first, trim_nr;	/* idle words, taken, with a hold for the call; 0: none */
	bool trim_queued;		/* for a worker to begin */
	bool trim_wanted;		/* __atomic; ->reap is to take idle words */
	unsigned int asleep;		/* workers */
	uint32_t work;			/* a futex: workers sleep on it */
	uint32_t watch_word;		/* a futex: the watch */
	bool watching;			/* the watch looks by itself */
	uint64_t activity;		/* counts calls and batches, for the watch */
	bool stop;
	unsigned int late_writes;	/* __atomic: free_index() looks first */
	uint64_t bad_pages;		/* __atomic */
	uint64_t late, retries, errors, discard_pages;

	struct zd_thread watch;
	struct blocking_worker worker[];
};

static inline struct blocking *to_blocking(const struct zd_device *dev)
{
	return (struct blocking *)dev->private_data;
}

/* --- lane.c; all with the lock --- */

void zd_blocking_push(struct blocking *b, struct zd_device_io *io);

/* Work for @w, which becomes the worker's; false: there is none. */
bool zd_blocking_take(struct blocking *b, struct blocking_worker *w);

/* Would zd_blocking_take() find a read or a write? */
bool zd_blocking_has_work(const struct blocking *b);

/* The results of @nr pages of @io are stored.  @done: gets @io when it is the batch's end. */
void zd_blocking_answered(struct blocking *b, struct zd_device_io *io, unsigned int nr,
			  struct zd_ioq *done);

/* Answer with -EAGAIN what nobody has taken of the first batch of @lane. */
void zd_blocking_drop_first(struct blocking *b, struct blocking_lane *lane, struct zd_ioq *done);

/* Answer with -EAGAIN what waits to be written, if the device is being removed. */
void zd_blocking_cancel(struct blocking *b, struct zd_ioq *done);

/* Without the lock: complete what has been answered. */
void zd_blocking_complete(struct blocking *b, struct zd_ioq *done);

/* --- worker.c --- */

/* The threads: the workers and the watch.  0, or -errno: there are none.  In the child of a
 * fork they are started anew, with nothing to do. */
int zd_blocking_start(struct blocking *b);
/* Blocks until all have ended, which have nothing to do. */
void zd_blocking_stop(struct blocking *b);
/* With the lock: there is work for one more worker. */
void zd_blocking_wake(struct blocking *b);

/* --- watch.c --- */

void *zd_blocking_watch(void *blocking);
/* With the lock: there is something to watch. */
void zd_blocking_wake_watch(struct blocking *b);

/* --- pages.c; all without the lock --- */

/* As in zd_device_ops. */
int zd_blocking_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns);
void zd_blocking_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns);
void zd_blocking_page_free(struct zd_device *dev, struct zd_page *page);

/* The call of a late write has returned: its pages that were freed meanwhile, a bit each from
 * @first on, may be given out. */
void zd_blocking_free_late(struct blocking *b, uint64_t first, uint64_t freed);

/* Have idle words discarded soon. */
void zd_blocking_want_trim(struct blocking *b);

/* --- stats.c --- */

int zd_blocking_stats(struct zd_device *dev, struct zd_device_stat *stats, unsigned int nr);

#endif
