/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a tier are its coldest.
 *
 * Mechanism.  Pages enter a tier's queue (fifo.h) in the order in which they went out, and the
 * first to have gone out count as coldest.  A run's number is the age of its entries (lru.h), so
 * a page that came home and went out again belongs to a newer run.  (Ages are coarse: a page that
 * went out again at once, or that mremap moved to and fro, is in two runs, and is taken once.)  A
 * page that goes away just changes its entry; queues that are mostly such leftovers are swept.  A
 * page that forked children share is passed over: it isn't moved.  What no run names (it was passed
 * over, or came by a fork) is found by a walk of the entries, when the queue has run dry.
 *
 * Only a server that has several tiers and evicts has such queues.
 *
 * Context.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_TIER_QUEUE_H
#define ZD_ENGINE_TIER_QUEUE_H

#include "engine/mm.h"

struct zd_place;

/* The entry of @addr has become DEVICE, or come from another address. */
void zd_tier_enter(struct zd_mm *mm, uint64_t addr);

/* Take the coldest pages, at most @max, into @places; 0: there are none now.  They have left
 * the queue. */
unsigned int zd_tier_take_coldest(struct zd_server *server, struct zd_tier *tier,
				  struct zd_place *places, unsigned int max);

#endif
