/* SPDX-License-Identifier: MIT */
/* What a forked child has of its parent. */
#include <string.h>
#include <unistd.h>

#include "engine/fork.h"
#include "engine/mig.h"
#include "engine/tier.h"
#include "space/uffd.h"
#include "zonedev/log.h"

/*
 * The child's entries: each device page gets one more reference; pages in RAM
 * are shared, and can be evicted from the child once it has written them.
 * Locked ones: going home, the child just has the device page; going out,
 * zd_migs_fork() makes the child a sharer.
 */
static void fork_range(struct zd_mm *parent, struct zd_mm *mm, const struct zd_range *range)
{
	uint64_t addr = zd_table_next(&parent->table, range->start, range->end);
	uint64_t first = addr, end = range->end;
	unsigned int nr = 0;	/* PRESENT pages from first on, not queued yet */

	for (; addr < end; addr = zd_table_next(&parent->table, addr + ZD_PAGE_SIZE, end)) {
		zd_entry_t e = *zd_mm_entry(parent, addr);

		if (zd_entry_state(e) == ZD_ENTRY_PRESENT) {
			if (nr == ZD_RUN_MAX || first + nr * ZD_PAGE_SIZE != addr) {
				if (nr)
					zd_mm_lru_add(mm, first, nr, false);
				first = addr;
				nr = 0;
			}
			nr++;
		} else if (zd_entry_state(e) == ZD_ENTRY_DEVICE) {
			zd_get_page(zd_pfn_to_page(zd_entry_val(e)));
			zd_entry_store(zd_mm_entry(mm, addr), e & ~(ZD_ENTRY_LOCK | ZD_ENTRY_WAIT));
			zd_mm_count_device(mm, zd_entry_val(e), 1);
		} else if (zd_entry_state(e) == ZD_ENTRY_POISON ||
			   zd_entry_state(e) == ZD_ENTRY_REMOVED) {
			zd_entry_store(zd_mm_entry(mm, addr), e);
		}
	}
	if (nr)
		zd_mm_lru_add(mm, first, nr, false);
}

static int fork_entries(struct zd_mm *parent, struct zd_mm *mm)
{
	const struct zd_ranges *r = &parent->ranges;
	int rc = 0;

	/* entries first: a listed range has its entries */
	for (size_t i = 0; !rc && i < r->nr; i++)
		rc = zd_table_reserve(&mm->table, r->v[i].start, r->v[i].end);
	/* the ranges that the child has: MADV_DONTFORK leaves some out */
	for (size_t i = 0; !rc && i < r->nr; i++)
		if (zd_mm_list(mm, r->v[i].start, r->v[i].end))
			rc = zd_mm_adopt(mm, r->v[i].start, r->v[i].end);
	/* what the child has moved since, its events will tell: it has all until then */
	for (size_t i = 0; !rc && i < r->nr && zd_uffd_changing(zd_mm_uffd(mm)); i++)
		rc = zd_mm_adopt(mm, r->v[i].start, r->v[i].end);
	if (rc)
		return rc;

	for (size_t i = 0; i < mm->ranges.nr; i++)
		fork_range(parent, mm, &mm->ranges.v[i]);
	return zd_migs_fork(parent, mm);
}

/* The server's thread; doesn't block. */
void zd_mm_born(struct zd_mm *parent, struct zd_mm *child)
{
	int rc = fork_entries(parent, child);

	if (!rc)
		rc = zd_loop_add(&child->server->loop, &child->source);
	child->unborn = false;
	if (!rc)
		return;
	zd_log(ZD_LOG_ERR,
	       "a forked child can't be served (%s): it will hang at the first page "
	       "that is away",
	       strerrordesc_np(-rc));
	/* a child that lives must not read zeros: its userfaultfd stays open */
	if (dup(zd_mm_uffd(child)) < 0)
		zd_log(ZD_LOG_ERR, "a forked child may read zeros");
	zd_mm_died(child);
}
