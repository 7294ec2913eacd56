/* SPDX-License-Identifier: MIT */
/*
 * Tiers: the devices of a server, fastest first.
 *
 * Mechanism.  server->tiers[] is the order in which evictions look for room; each points to a
 * struct zd_tier of server->tier_slots[], which stays where it is while the device is attached,
 * since epoll knows its address.  Which tier a device page is of follows from its pfn, by a
 * compare a tier: entries and batches don't name it.
 *
 * Invariants.  A tier that a DEVICE entry, a batch or a delayed put has a page of is attached: a
 * device is detached when none of its pages is live.  mm->on_tier[] counts the DEVICE entries
 * of an address space by slot; they add up to mm->nr_device.
 *
 * Context.  The server's thread, or before it runs; no call blocks.
 */
#ifndef ZD_ENGINE_TIER_H
#define ZD_ENGINE_TIER_H

#include "engine/mm.h"
#include "engine/server_types.h"

/* @dev becomes the last tier; nothing if it is one.  0; -EBUSY: another server's; -EAGAIN: the
 * device is in use by a thread that drives it without a server; -ENOSPC: ZD_TIERS_MAX are
 * attached; or -errno. */
int zd_server_attach(struct zd_server *server, struct zd_device *dev);
/* @dev, of which no page is live and no batch is in flight, is no tier any more; nothing if it is
 * none. */
void zd_server_detach(struct zd_server *server, struct zd_device *dev);
void zd_server_detach_all(struct zd_server *server);

/* The tier of @dev; NULL: it isn't attached. */
struct zd_tier *zd_server_find_tier(const struct zd_server *server, const struct zd_device *dev);

/* Whether @dev, which is attached, answers. */
static inline struct zd_reach *zd_server_reach(const struct zd_server *server,
					       const struct zd_device *dev)
{
	return &zd_server_find_tier(server, dev)->reach;
}

/* The @i-th, fastest first; NULL: there are fewer. */
static inline struct zd_tier *zd_server_tier(const struct zd_server *server, unsigned int i)
{
	return i < server->nr_tiers ? server->tiers[i] : NULL;
}

/* The tier that the device page @pfn is of. */
static inline struct zd_tier *zd_server_tier_of(const struct zd_server *server, zd_pfn_t pfn)
{
	unsigned int i = 0;

	while (i + 1 < server->nr_tiers &&
	       pfn - server->tiers[i]->pfn >= server->tiers[i]->nr_pages)
		i++;
	return server->tiers[i];
}

static inline struct zd_device *zd_server_device(const struct zd_server *server, zd_pfn_t pfn)
{
	return zd_server_tier_of(server, pfn)->dev;
}

/* Eviction starts so many pages below server->limit. */
static inline uint64_t zd_server_margin(const struct zd_server *server)
{
	uint64_t m = server->limit / 16;

	if (m < 128)
		m = 128;
	return m < 4096 ? m : 4096;
}

/* Are as many pages on their way to @tier as may be?  They lie in buffers, which are RAM as well: with
 * no more than the margin all of it stays below the limit. */
static inline bool zd_tier_is_busy(const struct zd_server *server, const struct zd_tier *tier)
{
	return server->limit && tier->reach.pages[ZD_TO_DEVICE] >= zd_server_margin(server);
}

/* Can every tier be given pages, now or in a moment?  Not one that is away, or busy and stalled. */
bool zd_server_is_in_reach(const struct zd_server *server);

/*
 * May pages go to @tier?  Not while it is being removed, or is out of reach.  And not, as long as
 * a tier below has room: for a moment after a failed write; or when its contents take more than their share of
 * server->limit.
 */
bool zd_tier_may_take(const struct zd_server *server, const struct zd_tier *tier);
/* Is there a tier below @tier that, as far as is known, has room and works? */
bool zd_tier_has_room_below(const struct zd_server *server, const struct zd_tier *tier);
/* The next tier below @tier (NULL: from the first on) that may take pages; NULL: none may. */
struct zd_tier *zd_server_next_tier(const struct zd_server *server, const struct zd_tier *tier);
/* A write failed. */
void zd_tier_pause(struct zd_tier *tier);
/* Of @asked pages ->alloc_pages gave @got. */
void zd_tier_took(struct zd_tier *tier, unsigned int asked, int got);

/* Pages of RAM that the contents of @tier take. */
static inline uint64_t zd_tier_ram_pages(const struct zd_tier *tier)
{
	const struct zd_device_ops *ops = tier->dev->ops;

	return ops->ram_bytes ? (ops->ram_bytes(tier->dev) + ZD_PAGE_SIZE - 1) / ZD_PAGE_SIZE : 0;
}

/* What counts against server->limit: resident pages, and RAM that holds contents of tiers.  (The
 * buffers of batches don't: of spare ones there are few, and a limit that they took a part of would
 * cost a program more faults than it had with one device.) */
static inline uint64_t zd_server_used(const struct zd_server *server)
{
	uint64_t used = server->resident;

	for (unsigned int i = 0; i < server->nr_tiers; i++)
		used += zd_tier_ram_pages(server->tiers[i]);
	return used;
}

/* An entry of @mm has become one of the device page @pfn, or isn't any more. */
static inline void zd_mm_count_device(struct zd_mm *mm, zd_pfn_t pfn, int n)
{
	struct zd_tier *tier = zd_server_tier_of(mm->server, pfn);

	mm->nr_device += n;
	mm->on_tier[tier->slot] += n;
	tier->nr_entries += n;
	mm->server->stats.c.pages_device += n;
}

#endif
