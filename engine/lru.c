/* SPDX-License-Identifier: MIT */
/* The queues; their mechanism is told in lru.h. */
#include "engine/lru.h"

void zd_lru_destroy(struct zd_lru *lru)
{
	for (int q = 0; q < ZD_LRU_NR; q++)
		zd_fifo_destroy(&lru->fifo[q]);
}

bool zd_lru_refault_is_hot(const struct zd_lru *lru, zd_entry_t entry)
{
	return zd_lru_refault_distance(lru, entry) <= zd_lru_present(lru);
}

int zd_lru_add(struct zd_lru *lru, const struct zd_table *table, unsigned int slot, uint64_t addr,
	       unsigned int nr, bool hot)
{
	uint64_t id = lru->next_run++ & ZD_ENTRY_VAL_MASK;
	struct zd_run run = {
		.addr = addr | (nr - 1),
		.id = id | (uint64_t)slot << 48,
	};
	int q = hot ? ZD_LRU_ACTIVE : ZD_LRU_INACTIVE;
	int rc = zd_fifo_push(&lru->fifo[q], &run);

	for (unsigned int i = 0; i < nr; i++)
		zd_entry_store(zd_table_entry(table, addr + i * ZD_PAGE_SIZE),
			       rc ? 0 : zd_entry_present(id, hot));
	if (!rc)
		lru->present[q] += nr;
	return rc;
}

bool zd_lru_peek(struct zd_lru *lru, struct zd_run *run)
{
	return zd_fifo_peek(&lru->fifo[ZD_LRU_INACTIVE], run);
}

void zd_lru_pop(struct zd_lru *lru)
{
	zd_fifo_pop(&lru->fifo[ZD_LRU_INACTIVE]);
}

void zd_lru_rotate(struct zd_lru *lru)
{
	struct zd_run run;

	/* push first, which may fail: the run must not get lost */
	if (zd_lru_peek(lru, &run) && !zd_fifo_push(&lru->fifo[ZD_LRU_INACTIVE], &run))
		zd_lru_pop(lru);
}

bool zd_lru_in_run(const struct zd_table *table, uint64_t addr, const struct zd_run *run)
{
	zd_entry_t e;

	/* the run's slot may have been given to another address space */
	if (!table->dir[addr >> ZD_TABLE_SHIFT])
		return false;
	e = *zd_table_entry(table, addr);
	return zd_entry_state(e) == ZD_ENTRY_PRESENT && zd_entry_val(e) == zd_run_number(run);
}

/* Pages of the run that are still its own. */
static unsigned int run_live(const struct zd_table *table, const struct zd_run *run)
{
	unsigned int live = 0;

	if (!table)
		return 0;
	for (unsigned int i = 0; i < zd_run_nr(run); i++)
		if (zd_lru_in_run(table, zd_run_addr(run) + i * ZD_PAGE_SIZE, run))
			live++;
	return live;
}

/* Oldest active run -> inactive: same number, entries lose HOT. */
static bool demote(struct zd_lru *lru, const struct zd_table *table, const struct zd_run *run)
{
	if (!run_live(table, run))
		return true;
	if (zd_fifo_push(&lru->fifo[ZD_LRU_INACTIVE], run))
		return false;
	for (unsigned int i = 0; i < zd_run_nr(run); i++) {
		uint64_t addr = zd_run_addr(run) + i * ZD_PAGE_SIZE;
		zd_entry_t *entry;

		if (!zd_lru_in_run(table, addr, run))
			continue;
		entry = zd_table_entry(table, addr);
		if (!(*entry & ZD_ENTRY_HOT))
			continue;
		zd_entry_store(entry, *entry & ~ZD_ENTRY_HOT);
		lru->present[ZD_LRU_ACTIVE]--;
		lru->present[ZD_LRU_INACTIVE]++;
	}
	return true;
}

/* Rebuild a queue that is mostly leftovers; amortised over the cost of entering these.
 * A run that can't be pushed again (-ENOMEM) is dropped: its pages are then resident and
 * not evictable, until a scan enters them anew. */
static void sweep(struct zd_fifo *f, zd_lru_table_of *table_of, void *ctx)
{
	uint64_t todo = f->runs;
	struct zd_run run;

	while (todo-- && zd_fifo_peek(f, &run)) {
		zd_fifo_pop(f);
		if (run_live(table_of(ctx, zd_run_slot(&run)), &run))
			zd_fifo_push(f, &run);
	}
}

void zd_lru_balance(struct zd_lru *lru, zd_lru_table_of *table_of, void *ctx)
{
	struct zd_run run;

	for (int q = 0; q < ZD_LRU_NR; q++)
		if (lru->fifo[q].pages > 4 * lru->present[q] + 65536)
			sweep(&lru->fifo[q], table_of, ctx);

	/* a third of the resident pages always stand in line for eviction */
	while (lru->present[ZD_LRU_ACTIVE] > 2 * lru->present[ZD_LRU_INACTIVE] &&
	       zd_fifo_peek(&lru->fifo[ZD_LRU_ACTIVE], &run)) {
		if (!demote(lru, table_of(ctx, zd_run_slot(&run)), &run))
			return;
		zd_fifo_pop(&lru->fifo[ZD_LRU_ACTIVE]);
	}
}

bool zd_lru_demote(struct zd_lru *lru, uint64_t nr, zd_lru_table_of *table_of, void *ctx)
{
	uint64_t goal = lru->present[ZD_LRU_ACTIVE] > nr ? lru->present[ZD_LRU_ACTIVE] - nr : 0;
	bool moved = false;
	struct zd_run run;

	while (lru->present[ZD_LRU_ACTIVE] > goal &&
	       zd_fifo_peek(&lru->fifo[ZD_LRU_ACTIVE], &run) &&
	       demote(lru, table_of(ctx, zd_run_slot(&run)), &run)) {
		zd_fifo_pop(&lru->fifo[ZD_LRU_ACTIVE]);
		moved = true;
	}
	return moved;
}
