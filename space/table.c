/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/alloc.h"
#include "space/table.h"

/* A page of `touched` bytes, then the entries: the leaf points to the entries. */
#define HEAD_BYTES	ZD_PAGE_SIZE
#define LEAF_BYTES	(HEAD_BYTES + ZD_TABLE_LEAF_ENTRIES * sizeof(zd_entry_t))
#define DIR_BYTES	(ZD_TABLE_SLOTS * sizeof(zd_entry_t *))

struct zd_table_chunk {
	struct zd_table_chunk *next;
	void *mem;
	size_t bytes;
};

static zd_entry_t *leaf_of(const struct zd_table *table, uint64_t addr)
{
	return table->dir[addr >> ZD_TABLE_SHIFT];
}

int zd_table_init(struct zd_table *table)
{
	table->chunks = NULL;
	table->dir = zd_reserve(DIR_BYTES);
	if (!table->dir)
		return -ENOMEM;
	table->touched = zd_reserve(ZD_TABLE_SLOTS);
	if (table->touched)
		return 0;
	zd_unreserve(table->dir, DIR_BYTES);
	table->dir = NULL;
	return -ENOMEM;
}

void zd_table_destroy(struct zd_table *table)
{
	struct zd_table_chunk *chunk;

	while ((chunk = table->chunks)) {
		table->chunks = chunk->next;
		zd_unreserve(chunk->mem, chunk->bytes);
		zd_free(chunk);
	}
	if (!table->dir)
		return;
	zd_unreserve(table->touched, ZD_TABLE_SLOTS);
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
	leaf = (zd_entry_t *)((char *)chunk->mem + HEAD_BYTES);
	for (; nr--; slot++, leaf += LEAF_BYTES / sizeof(*leaf))
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

static uint64_t end_of(uint64_t addr, uint64_t span, uint64_t end)
{
	uint64_t stop = (addr | (span - 1)) + 1;

	return stop < end ? stop : end;
}

/* The first entry of [addr, end), all on one page of the table, that isn't zero. */
static uint64_t next_on_page(const struct zd_table *table, uint64_t addr, uint64_t end)
{
	const zd_entry_t *entry = &leaf_of(table, addr)[zd_table_index(addr)];

	for (; addr < end; addr += ZD_PAGE_SIZE, entry++)
		if (*entry)
			break;
	return addr;
}

static bool is_touched(const struct zd_table *table, uint64_t addr)
{
	return __atomic_load_n(&table->touched[addr >> ZD_TABLE_SHIFT], __ATOMIC_RELAXED);
}

uint64_t zd_table_next(const struct zd_table *table, uint64_t addr, uint64_t end)
{
	while (addr < end) {
		const unsigned char *touched = zd_table_touched(leaf_of(table, addr));
		uint64_t stop = end_of(addr, ZD_TABLE_SPAN, end);

		if (!is_touched(table, addr)) {
			addr = stop;
			continue;
		}
		while (addr < stop) {
			uint64_t next = end_of(addr, ZD_TABLE_PAGE_SPAN, stop);

			if (__atomic_load_n(&touched[zd_table_index(addr) / ZD_TABLE_PAGE_ENTRIES],
					    __ATOMIC_RELAXED))
				addr = next_on_page(table, addr, next);
			else
				addr = next;
			if (addr < next)
				return addr;
		}
	}
	return end;
}

void zd_table_trim(struct zd_table *table, uint64_t start, uint64_t end)
{
	while (start < end) {
		unsigned char *touched = zd_table_touched(leaf_of(table, start));
		uint64_t stop = end_of(start, ZD_TABLE_SPAN, end);
		uint64_t at = (start + ZD_TABLE_PAGE_SPAN - 1) & ~(ZD_TABLE_PAGE_SPAN - 1);

		if (!is_touched(table, start))
			at = stop;
		for (; at + ZD_TABLE_PAGE_SPAN <= stop; at += ZD_TABLE_PAGE_SPAN) {
			unsigned char *is = &touched[zd_table_index(at) / ZD_TABLE_PAGE_ENTRIES];

			if (__atomic_exchange_n(is, 0, __ATOMIC_RELAXED))
				zd_decommit(&leaf_of(table, at)[zd_table_index(at)], ZD_PAGE_SIZE);
		}
		start = stop;
	}
}
