/* SPDX-License-Identifier: MIT */
/*
 * What the events of an address space say that happened to it; changes.c keeps them
 * until they can be followed, order.c finds out in which order they happened.
 */
#ifndef ZD_ENGINE_CHANGES_H
#define ZD_ENGINE_CHANGES_H

#include <stdbool.h>
#include <stdint.h>

struct zd_mm;

enum zd_change_type {
	ZD_CHANGE_MOVE,		/* mremap: [start, end) is at @to now */
	ZD_CHANGE_UNMAP,
	ZD_CHANGE_REMOVE,	/* madvise: its content is given up */
	ZD_CHANGE_FORK,		/* @child is a copy of what there was */
};

struct zd_change {
	enum zd_change_type type;
	uint64_t start, end;
	uint64_t to;
	struct zd_mm *child;
	bool stays;		/* MOVE: no echo has been found (yet), see changes.c */
	uint32_t group;		/* changes.c */
};

static inline uint64_t zd_change_len(const struct zd_change *c)
{
	return c->end - c->start;
}

/* order.c: what is in doubt, by the address that it had before. */
#define ZD_DOUBT_MAX	32
struct zd_order {
	uint32_t *v;		/* indexes, in the order in which things happened */
	unsigned int nr_doubts;
	struct zd_doubt {
		uint64_t start, end;
	} doubts[ZD_DOUBT_MAX];
};

/*
 * In which order did @nr changes of @mm happen, that touch the same places?  @order->v
 * has @nr indexes on entry, in the order in which they were read, and is permuted.
 * @mm was still.  The server's thread.  -EAGAIN: it isn't any more; -ENOENT: none that is
 * possible was found, -E2BIG: too many to search, -ENOMEM.  Then nothing has changed.
 */
int zd_order_find(struct zd_mm *mm, const struct zd_change *changes, unsigned int nr,
		  struct zd_order *order);

#endif
