/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "core/alloc.h"
#include "mm/table.h"

#define LEAF_BYTES	(ZD_TABLE_LEAF_ENTRIES * sizeof(zd_entry_t))
#define DIR_BYTES	(ZD_TABLE_SLOTS * sizeof(zd_entry_t *))

struct zd_table_chunk {
	struct zd_table_chunk *next;
	void *mem;
	size_t bytes;
};

int zd_table_init(struct zd_table *table)
{
	table->chunks = NULL;
	table->dir = zd_reserve(DIR_BYTES);
	return table->dir ? 0 : -ENOMEM;
}

void zd_table_destroy(struct zd_table *table)
{
	struct zd_table_chunk *chunk;

	while ((chunk = table->chunks)) {
		table->chunks = chunk->next;
		zd_unreserve(chunk->mem, chunk->bytes);
		zd_free(chunk);
	}
	if (table->dir)
		zd_unreserve(table->dir, DIR_BYTES);
	table->dir = NULL;
}

/* One reservation for the slots [slot, slot + nr): a mapping each would run
 * into vm.max_map_count with a few TiB. */
static int reserve_slots(struct zd_table *table, uint64_t slot, uint64_t nr)
{
	struct zd_table_chunk *chunk = zd_alloc(sizeof(*chunk));
	zd_entry_t *leaf;

	if (!chunk)
		return -ENOMEM;
	chunk->bytes = nr * LEAF_BYTES;
	chunk->mem = zd_reserve(chunk->bytes);
	if (!chunk->mem) {
		zd_free(chunk);
		return -ENOMEM;
	}
	chunk->next = table->chunks;
	table->chunks = chunk;
	for (leaf = chunk->mem; nr--; slot++, leaf += ZD_TABLE_LEAF_ENTRIES)
		/* pairs with the acquire in zd_table_entry() */
		__atomic_store_n(&table->dir[slot], leaf, __ATOMIC_RELEASE);
	return 0;
}

int zd_table_reserve(struct zd_table *table, uint64_t start, uint64_t end)
{
	uint64_t slot = start >> ZD_TABLE_SHIFT;
	uint64_t last = (end + ZD_TABLE_SPAN - 1) >> ZD_TABLE_SHIFT;

	if (end <= start || last > ZD_TABLE_SLOTS)
		return -ERANGE;
	while (slot < last) {
		uint64_t nr = 0;
		int rc;

		if (table->dir[slot]) {
			slot++;
			continue;
		}
		while (slot + nr < last && !table->dir[slot + nr])
			nr++;
		rc = reserve_slots(table, slot, nr);
		if (rc)
			return rc;
		slot += nr;
	}
	return 0;
}

uint64_t zd_table_next(const struct zd_table *table, uint64_t addr, uint64_t end)
{
	/* A never-written part reads as the shared zero page: the walk commits
	 * no memory but page tables, and only happens when a range dies, moves
	 * or is forked. */
	for (; addr < end; addr += ZD_PAGE_SIZE)
		if (*zd_table_entry(table, addr))
			break;
	return addr;
}

void zd_table_trim(struct zd_table *table, uint64_t start, uint64_t end)
{
	while (start < end) {
		uint64_t stop = (start | (ZD_TABLE_SPAN - 1)) + 1;
		uint64_t first, last;

		if (stop > end)
			stop = end;
		/* entries of one directory slot are contiguous */
		first = (uintptr_t)zd_table_entry(table, start);
		last = (uintptr_t)(zd_table_entry(table, stop - ZD_PAGE_SIZE) + 1);
		first = (first + ZD_PAGE_SIZE - 1) & ~(ZD_PAGE_SIZE - 1);
		last &= ~(ZD_PAGE_SIZE - 1);
		if (first < last)
			zd_decommit((void *)(uintptr_t)first, last - first);
		start = stop;
	}
}
