/* SPDX-License-Identifier: MIT */
/* In which order did changes happen that touch the same places? */
#ifndef ZD_ENGINE_ORDER_H
#define ZD_ENGINE_ORDER_H

#include "engine/change.h"
#include "engine/mm.h"

#define ZD_DOUBT_MAX	32
struct zd_order {
	uint32_t *v;		/* indexes, in the order in which things happened */
	unsigned int nr_doubts;
	struct zd_doubt {	/* what is in doubt, by the address that it had before */
		uint64_t start, end;
	} doubts[ZD_DOUBT_MAX];
};

/*
 * In which order did @nr changes of @mm happen, that touch the same places?  @order->v
 * has @nr indexes on entry, in the order in which they were read, and is permuted.
 * @mm was still.  The server's thread; doesn't block.  -EAGAIN: @mm isn't still any more;
 * -ENOENT: no possible order was found; -E2BIG: too many to search; -ENOMEM.  On errors
 * @order->v is unchanged.
 */
int zd_order_find(struct zd_mm *mm, const struct zd_change *changes, unsigned int nr,
		  struct zd_order *order);

#endif
