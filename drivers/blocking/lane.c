/* SPDX-License-Identifier: MIT */
/* What waits for a worker, and in which order it is taken; see blocking.h. */
#include <errno.h>

#include "base/time.h"
#include "drivers/blocking/blocking.h"
#include "pages/pagemap.h"

#define READS_IN_ROW	8	/* then a write, if one waits */

static struct blocking_lane *lane_of(struct blocking *b, const struct zd_device_io *io)
{
	return &b->lane[io->dir == ZD_TO_DEVICE ? LANE_WRITE : LANE_READ];
}

void zd_blocking_push(struct blocking *b, struct zd_device_io *io)
{
	struct blocking_lane *lane = lane_of(b, io);

	io->pending = io->nr;
	io->driver = (void *)(uintptr_t)zd_now_ns();
	lane->queued += io->nr;
	zd_ioq_push(&lane->q, io);
	b->activity++;
}

void zd_blocking_answered(struct blocking *b, struct zd_device_io *io, unsigned int nr,
			  struct zd_ioq *done)
{
	struct blocking_lane *lane = lane_of(b, io);
	uint64_t ns = zd_now_ns() - (uintptr_t)io->driver;

	lane->calls++;
	lane->pages += nr;
	lane->total_ns += ns;
	zd_hist_add(&lane->latency, ns, 1);
	io->pending -= nr;
	if (!io->pending)
		zd_ioq_push(done, io);
}

/* The first batch of @lane has been taken to its end. */
static void pop(struct blocking_lane *lane)
{
	zd_ioq_pop(&lane->q);
	lane->taken = 0;
}

void zd_blocking_drop_first(struct blocking *b, struct blocking_lane *lane, struct zd_ioq *done)
{
	struct zd_device_io *io = lane->q.head;
	unsigned int nr = io->nr - lane->taken;

	for (unsigned int i = lane->taken; i < io->nr; i++)
		io->pages[i].error = -EAGAIN;
	lane->queued -= nr;
	pop(lane);
	zd_blocking_answered(b, io, nr, done);
}

void zd_blocking_cancel(struct blocking *b, struct zd_ioq *done)
{
	struct blocking_lane *writes = &b->lane[LANE_WRITE];

	while (writes->q.head && zd_percpu_ref_is_dying(&b->dev.pgmap.priv->ref))
		zd_blocking_drop_first(b, writes, done);
}

void zd_blocking_complete(struct blocking *b, struct zd_ioq *done)
{
	struct zd_device_io *io;

	while ((io = zd_ioq_pop(done)))
		zd_io_complete_any(&b->dev, io);
}

/* How many pages one call can do from @slot on.  With memory of the worker's own the buffers
 * needn't be neighbours. */
static unsigned int run_length(const struct zd_device_io *io, unsigned int slot, bool bounce)
{
	const struct zd_io_page *page = &io->pages[slot];
	unsigned int nr = 1;

	while (nr < ZD_BLOCKING_RUN && slot + nr < io->nr && page[nr].pfn == page->pfn + nr &&
	       (bounce || (char *)page[nr].buf == (char *)page->buf + nr * ZD_PAGE_SIZE))
		nr++;
	return nr;
}

static void take_run(struct blocking *b, struct blocking_lane *lane, struct blocking_worker *w)
{
	struct zd_device_io *io = lane->q.head;

	w->io = io;
	w->slot = lane->taken;
	w->first = zd_device_page_index(&b->dev, io->pages[w->slot].pfn);
	w->nr = run_length(io, w->slot, w->bounce);
	lane->queued -= w->nr;
	lane->taken += w->nr;
	if (lane->taken == io->nr)
		pop(lane);
	/* The batch holds the device's pages; the call needs a hold of its own, since the watch
	 * may answer the batch before the driver returns. */
	zd_percpu_ref_get(&b->dev.pgmap.priv->ref);
}

static bool take_trim(struct blocking *b, struct blocking_worker *w)
{
	if (!b->trim_queued)
		return false;
	b->trim_queued = false;
	w->io = NULL;
	w->first = b->trim_first;
	w->nr = b->trim_nr;
	return true;
}

/* One worker is left for reads. */
static bool may_be_slow(const struct blocking *b)
{
	return !b->nr_slow || b->nr_slow + 1 < b->attr.threads;
}

bool zd_blocking_has_work(const struct blocking *b)
{
	return b->lane[LANE_READ].q.head || (b->lane[LANE_WRITE].q.head && may_be_slow(b));
}

static enum blocking_work choose(struct blocking *b, struct blocking_worker *w)
{
	struct blocking_lane *reads = &b->lane[LANE_READ], *writes = &b->lane[LANE_WRITE];
	bool write = writes->q.head && may_be_slow(b);

	if (reads->q.head && (!write || b->reads_in_row < READS_IN_ROW)) {
		b->reads_in_row += write;
		take_run(b, reads, w);
		return WORK_READ;
	}
	b->reads_in_row = 0;
	if (write) {
		take_run(b, writes, w);
		return WORK_WRITE;
	}
	return may_be_slow(b) && take_trim(b, w) ? WORK_DISCARD : WORK_NONE;
}

bool zd_blocking_take(struct blocking *b, struct blocking_worker *w)
{
	w->work = choose(b, w);
	if (w->work == WORK_NONE)
		return false;
	b->nr_slow += w->work != WORK_READ;
	b->activity++;
	w->copying = w->work == WORK_WRITE && w->bounce;
	w->freed = 0;
	w->begun_ns = zd_now_ns();
	w->told = false;
	return true;
}
