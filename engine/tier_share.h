/* SPDX-License-Identifier: MIT */
/*
 * How much of server->limit a tier that keeps its contents in RAM may take.
 *
 * Mechanism.  RAM that such a tier takes is missing as resident memory.  Whether it is better there
 * faults tell: the refault distance of a page that comes home (lru.h) says how much more resident
 * memory would have kept the page.  No more than the tier takes ("near"): without the tier the page
 * would not have left.  Farther: without the tier the page would have come from a slower one.  So a
 * far page from the tier has saved what the next tier would have cost, less what the tier itself
 * costs; a near one has cost the latter; and a near one from a tier below has cost all of that
 * tier's time.  Each fault moves the share by what it has saved or cost, one page of RAM for a
 * whole time of the tier below.
 *
 * Invariants.  The share is between a 32nd of the limit, from which it can grow again when the
 * program has changed, and half of it.
 *
 * Context.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_TIER_SHARE_H
#define ZD_ENGINE_TIER_SHARE_H

#include "engine/server_types.h"
#include "space/table.h"

/* Pages of RAM that the contents of @tier may take. */
uint64_t zd_tier_ram_share(const struct zd_server *server, const struct zd_tier *tier);

/* The page that had @entry, DEVICE, comes home. */
void zd_server_weigh_shares(struct zd_server *server, zd_entry_t entry);

#endif
