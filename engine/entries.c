/* SPDX-License-Identifier: MIT */
/* What unmap, madvise and mremap make of entries. */
#include "base/time.h"
#include "engine/entries.h"
#include "engine/mig.h"
#include "engine/ram_page.h"
#include "engine/tier_queue.h"
#include "space/maps.h"
#include "space/uffd.h"
#include "zonedev/log.h"

/* Clear an entry, and let go of what it held.  A locked one has been taken off its batch by
 * zd_migs_drop() before. */
static void drop_entry(struct zd_mm *mm, zd_entry_t *entry)
{
	zd_entry_t e = *entry;

	switch (zd_entry_state(e)) {
	case ZD_ENTRY_DEVICE:
		/* a page that forked children share is freed by the last */
		if (zd_page_count(zd_pfn_to_page(zd_entry_val(e))) == 1)
			mm->server->stats.c.pages_freed++;
		zd_mm_put_device(mm, entry, 0);
		return;
	case ZD_ENTRY_PRESENT:
		zd_lru_forget(&mm->server->lru, e);
		break;
	case ZD_ENTRY_SYSTEM:
		zd_ram_page_drop(entry);
		return;
	case ZD_ENTRY_DAX:	/* not in a managed range: its mapping's (device_vma.h) */
		return;
	case ZD_ENTRY_POISON:
	case ZD_ENTRY_REMOVED:
	case ZD_ENTRY_GOING:
	case ZD_ENTRY_NONE:
		break;
	}
	zd_entry_store(entry, 0);
}

void zd_mm_drop(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	size_t i = zd_ranges_first(&mm->ranges, start);

	zd_migs_drop(mm, start, end, 0);
	for (; i < mm->ranges.nr && mm->ranges.v[i].start < end; i++) {
		uint64_t from = mm->ranges.v[i].start > start ? mm->ranges.v[i].start : start;
		uint64_t to = mm->ranges.v[i].end < end ? mm->ranges.v[i].end : end;
		uint64_t addr = zd_table_next(&mm->table, from, to);

		for (; addr < to; addr = zd_table_next(&mm->table, addr + ZD_PAGE_SIZE, to))
			drop_entry(mm, zd_mm_entry(mm, addr));
		zd_table_trim(&mm->table, from, to);
	}
}

void zd_mm_remove(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	size_t i = zd_ranges_first(&mm->ranges, start);

	for (; i < mm->ranges.nr && mm->ranges.v[i].start < end; i++) {
		uint64_t from = mm->ranges.v[i].start > start ? mm->ranges.v[i].start : start;
		uint64_t to = mm->ranges.v[i].end < end ? mm->ranges.v[i].end : end;
		uint64_t addr = zd_table_next(&mm->table, from, to);

		zd_migs_drop(mm, from, to, ZD_ENTRY_REMOVED);
		for (; addr < to; addr = zd_table_next(&mm->table, addr + ZD_PAGE_SIZE, to)) {
			zd_entry_t *entry = zd_mm_entry(mm, addr), next;

			if (zd_entry_state(*entry) == ZD_ENTRY_PRESENT ||
			    zd_entry_state(*entry) == ZD_ENTRY_GOING)
				continue;	/* zd_mm_going() has seen to those */
			next = zd_entry_state(*entry) == ZD_ENTRY_SYSTEM ? 0 : ZD_ENTRY_REMOVED;
			drop_entry(mm, entry);
			zd_entry_store(entry, next);
		}
	}
}

/* [addr, end) is in RAM, and a madvise may be about to take it: entries become @next. */
static void going(struct zd_mm *mm, uint64_t addr, uint64_t end, zd_entry_t next)
{
	for (; addr < end; addr += ZD_PAGE_SIZE) {
		zd_entry_t *entry = zd_mm_entry(mm, addr);

		if (*entry & ZD_ENTRY_LOCK || zd_entry_state(*entry) > ZD_ENTRY_PRESENT)
			continue;
		if (zd_entry_state(*entry) == ZD_ENTRY_PRESENT)
			zd_lru_forget(&mm->server->lru, *entry);
		zd_entry_store(entry, next);
	}
}

/* Descriptors of [start, end) become UNSETTLED: a thread that asks for one checks first
 * whether the page is still there. */
static void mark_unsettled(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	for (uint64_t a = zd_table_next(&mm->table, start, end); a < end;
	     a = zd_table_next(&mm->table, a + ZD_PAGE_SIZE, end)) {
		zd_entry_t *entry = zd_mm_entry(mm, a);

		if (zd_entry_state(*entry) == ZD_ENTRY_SYSTEM)
			zd_entry_store(entry, *entry | ZD_ENTRY_UNSETTLED);
	}
}

void zd_mm_going(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	zd_entry_t next = zd_entry_going(zd_now_ns());
	size_t i = zd_ranges_first(&mm->ranges, start);
	struct zd_present present[64];

	for (; mm->pagemap_fd >= 0 && i < mm->ranges.nr && mm->ranges.v[i].start < end; i++) {
		uint64_t pos = mm->ranges.v[i].start > start ? mm->ranges.v[i].start : start;
		uint64_t to = mm->ranges.v[i].end < end ? mm->ranges.v[i].end : end;
		int n = 0;

		mark_unsettled(mm, pos, to);
		while (pos < to && n >= 0) {
			n = zd_present_scan(mm->pagemap_fd, &pos, to, present, 64, 0);
			for (int k = 0; k < n; k++)
				going(mm, present[k].start, present[k].end, next);
		}
	}
}

void zd_mm_forget(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	zd_mm_drop(mm, start, end);
	if (zd_ranges_remove(&mm->ranges, start, end))
		/* harmless: the entries of the range are empty, and a fault in it finds no
		 * mapping */
		zd_log(ZD_LOG_WARN, "out of memory: a range of no use stays listed");
}

/* The entry of @from, that isn't zero, becomes @to's. */
static void remap_entry(struct zd_mm *mm, uint64_t from, uint64_t to)
{
	zd_entry_t *old = zd_mm_entry(mm, from), e = *old;

	if (zd_entry_state(e) == ZD_ENTRY_PRESENT) {
		/* the page's run names the old address: a new run */
		zd_lru_forget(&mm->server->lru, e);
		zd_entry_store(old, 0);
		zd_mm_lru_add(mm, to, 1, e & ZD_ENTRY_HOT);
		return;
	}
	if (zd_entry_state(e) == ZD_ENTRY_SYSTEM)
		/* holders may ask; zd_page_address() */
		__atomic_store_n(&zd_pfn_to_page(zd_entry_val(e))->word, to, __ATOMIC_RELAXED);
	zd_entry_store(zd_mm_entry(mm, to), e & ~ZD_ENTRY_WAIT);
	if (zd_entry_state(e) == ZD_ENTRY_DEVICE)
		zd_tier_enter(mm, to);
	/* a thread that waits at the old address faults again, on what is there now */
	if (e & ZD_ENTRY_LOCK)
		zd_uffd_wake(zd_mm_uffd(mm), from, ZD_PAGE_SIZE);
	zd_entry_store(old, 0);
}

void zd_mm_remap(struct zd_mm *mm, uint64_t from, uint64_t to, uint64_t len)
{
	/* The destination is free (changes.c).  Adopting can only fail for want of
	 * memory; without entries faults at the destination could not be served. */
	if (zd_mm_adopt(mm, to, to + len)) {
		zd_log(ZD_LOG_ERR, "out of memory while following an mremap: "
				   "the address space can't be served any more");
		mm->server->host->kill(mm);
		return;
	}
	zd_migs_remap(mm, from, to, len);
	for (size_t i = zd_ranges_first(&mm->ranges, from);
	     i < mm->ranges.nr && mm->ranges.v[i].start < from + len; i++) {
		const struct zd_range *r = &mm->ranges.v[i];
		uint64_t a = r->start > from ? r->start : from;
		uint64_t end = r->end < from + len ? r->end : from + len;

		for (a = zd_table_next(&mm->table, a, end); a < end;
		     a = zd_table_next(&mm->table, a + ZD_PAGE_SIZE, end))
			remap_entry(mm, a, a - from + to);
	}
	zd_mm_forget(mm, from, from + len);
}
