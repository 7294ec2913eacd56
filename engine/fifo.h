/* SPDX-License-Identifier: MIT */
/*
 * A queue of runs: consecutive pages of an address space, first in, first out.  What a run's
 * number means is its queue's to say (lru.h, tier_queue.h).
 *
 * Context.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_FIFO_H
#define ZD_ENGINE_FIFO_H

#include <stdbool.h>
#include <stdint.h>
#include "space/table.h"

#define ZD_RUN_MAX	512	/* pages in a run: one huge page */

struct zd_run {
	uint64_t addr;		/* page-aligned, nr - 1 in the low bits */
	uint64_t id;		/* run number, the address space's slot in the high 16 bits */
};

static inline uint64_t zd_run_addr(const struct zd_run *run)
{
	return run->addr & ~(ZD_PAGE_SIZE - 1);
}

static inline unsigned int zd_run_nr(const struct zd_run *run)
{
	return (run->addr & (ZD_PAGE_SIZE - 1)) + 1;
}

static inline uint64_t zd_run_number(const struct zd_run *run)
{
	return run->id & ZD_ENTRY_VAL_MASK;
}

static inline unsigned int zd_run_slot(const struct zd_run *run)
{
	return run->id >> 48;
}

struct zd_fifo_chunk;

struct zd_fifo {
	struct zd_fifo_chunk *head, *tail;
	unsigned int head_pos, tail_pos;
	uint64_t runs, pages;	/* leftovers included */
};

/* 0 or -ENOMEM. */
int zd_fifo_push(struct zd_fifo *f, const struct zd_run *run);
/* The oldest run; false: there is none. */
bool zd_fifo_peek(const struct zd_fifo *f, struct zd_run *run);
/* It goes; there must be one. */
void zd_fifo_pop(struct zd_fifo *f);
/* Its first @nr pages go, and it with the last. */
void zd_fifo_shorten(struct zd_fifo *f, unsigned int nr);
/* The newest run, NULL: there is none.  Its addr may be changed, and f->pages with it. */
struct zd_run *zd_fifo_tail(const struct zd_fifo *f);
void zd_fifo_destroy(struct zd_fifo *f);

#endif
