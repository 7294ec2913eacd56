/* SPDX-License-Identifier: MIT */
/*
 * Eviction order: two FIFO queues with a second chance.
 *
 * Mechanism.  User space can't read accessed bits cheaply, but it sees every
 * page come home, and that says more: a page that comes home soon after it went
 * out was wrongly thought cold.  "Soon" is measured in evictions: the clock
 * counts pages sent out, a DEVICE entry remembers the clock of its eviction,
 * and a page that returns within as many evictions as there are resident pages
 * would have stayed had the queue been a little longer (its refault distance).
 * Such a page is HOT and enters the active queue; all others enter the inactive
 * one, where evictions are taken from.  When the inactive queue runs short the
 * oldest of the active queue move over: their second chance.
 *
 * The unit in a queue is a run: consecutive pages that became resident
 * together.  They are likely to become cold together, and a run moves out in
 * one system call.  A huge page is a run of 512.
 *
 * Invariants.  A PRESENT entry names the one run that it belongs to (the run's
 * number, unique among 2^36); a page that goes away just changes its entry, and
 * a run that no page names any more is skipped when it is popped.  Queues that
 * are mostly such leftovers are swept.
 *
 * Context.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_LRU_H
#define ZD_ENGINE_LRU_H

#include <stdbool.h>
#include <stdint.h>
#include "engine/fifo.h"

enum { ZD_LRU_INACTIVE, ZD_LRU_ACTIVE, ZD_LRU_NR };

struct zd_lru {
	struct zd_fifo fifo[ZD_LRU_NR];
	uint64_t present[ZD_LRU_NR];	/* PRESENT pages, no leftovers */
	uint64_t next_run;
	uint64_t clock;			/* pages evicted so far */
};

/* The clock in the resolution that an entry can hold. */
#define ZD_LRU_AGE_SHIFT	6
static inline uint32_t zd_lru_age(const struct zd_lru *lru)
{
	return (lru->clock >> ZD_LRU_AGE_SHIFT) & ZD_ENTRY_AGE_MASK;
}

static inline uint64_t zd_lru_present(const struct zd_lru *lru)
{
	return lru->present[ZD_LRU_INACTIVE] + lru->present[ZD_LRU_ACTIVE];
}

/* So many pages more in RAM would have kept the page of this DEVICE entry there. */
static inline uint64_t zd_lru_refault_distance(const struct zd_lru *lru, zd_entry_t entry)
{
	return (uint64_t)((zd_lru_age(lru) - zd_entry_age(entry)) & ZD_ENTRY_AGE_MASK)
	       << ZD_LRU_AGE_SHIFT;
}

/* Would the page of this DEVICE entry have stayed, had the queue been longer? */
bool zd_lru_refault_is_hot(const struct zd_lru *lru, zd_entry_t entry);

/* Enter [addr, addr + nr pages), whose entries are in @table, as one run of @slot; the
 * entries become PRESENT.  -ENOMEM: they become NONE, that is resident and not evictable. */
int zd_lru_add(struct zd_lru *lru, const struct zd_table *table, unsigned int slot, uint64_t addr,
	       unsigned int nr, bool hot);

/* @entry, PRESENT, is about to become something else. */
static inline void zd_lru_forget(struct zd_lru *lru, zd_entry_t entry)
{
	lru->present[entry & ZD_ENTRY_HOT ? ZD_LRU_ACTIVE : ZD_LRU_INACTIVE]--;
}

/* The oldest inactive run, without and with taking it; false: none. */
bool zd_lru_peek(struct zd_lru *lru, struct zd_run *run);
void zd_lru_pop(struct zd_lru *lru);
/* The oldest inactive run becomes the newest. */
void zd_lru_rotate(struct zd_lru *lru);

/* The table of the address space that has @slot now; NULL: none has. */
typedef const struct zd_table *zd_lru_table_of(void *ctx, unsigned int slot);

/* Move from active to inactive until the inactive queue is long enough;
 * and sweep leftovers out. */
void zd_lru_balance(struct zd_lru *lru, zd_lru_table_of *table_of, void *ctx);
/* Nothing in the inactive queue can go: the oldest @nr active pages join it.
 * False: there are none. */
bool zd_lru_demote(struct zd_lru *lru, uint64_t nr, zd_lru_table_of *table_of, void *ctx);

/* Does the page at @addr still belong to @run? */
bool zd_lru_in_run(const struct zd_table *table, uint64_t addr, const struct zd_run *run);

void zd_lru_destroy(struct zd_lru *lru);

#endif
