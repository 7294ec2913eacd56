/* SPDX-License-Identifier: MIT */
/*
 * pages/ioq.h - queues of batches, and calling ->done without recursion.
 *
 * ->done may submit the next batch, which may complete at once, and so on: a
 * driver that called ->done from inside ->submit would go one level deeper
 * with each batch.  Finished batches are queued instead, and the outermost caller
 * empties the queue.  One thread at a time, as ->submit and ->reap are.
 */
#ifndef ZD_PAGES_IOQ_H
#define ZD_PAGES_IOQ_H

#include <stdbool.h>
#include <stddef.h>

#include "zonedev/device.h"

/* False: the direction was forgotten, or is garbage. */
static inline bool zd_io_dir_is_known(enum zd_io_dir dir)
{
	return dir == ZD_TO_DEVICE || dir == ZD_FROM_DEVICE;
}

struct zd_ioq {
	struct zd_device_io *head, *last;
};

static inline void zd_ioq_push(struct zd_ioq *q, struct zd_device_io *io)
{
	io->next = NULL;
	if (q->head)
		q->last->next = io;
	else
		q->head = io;
	q->last = io;
}

static inline struct zd_device_io *zd_ioq_pop(struct zd_ioq *q)
{
	struct zd_device_io *io = q->head;

	if (io)
		q->head = io->next;
	return io;
}

struct zd_io_finisher {
	struct zd_ioq done;
	bool running;
};

/* In io->dir, from a batch's completion from any thread until its ->done (device_async.c). */
#define ZD_IO_COMPLETED	(1u << 31)

/* Call ->done of all batches that are queued.  Returns how many; 0 when a caller
 * further up the stack does it already. */
static inline int zd_io_finish(struct zd_io_finisher *f)
{
	struct zd_device_io *io;
	int nr = 0;

	if (f->running)
		return 0;
	f->running = true;
	while ((io = zd_ioq_pop(&f->done))) {
		nr++;
		io->dir = (enum zd_io_dir)(io->dir & ~ZD_IO_COMPLETED);
		zd_io_complete(io);
	}
	f->running = false;
	return nr;
}

#endif
