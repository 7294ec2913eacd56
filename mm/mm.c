/* SPDX-License-Identifier: MIT */
/*
 * Address spaces: creation, fork, death, and what events do to their entries.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/bug.h"
#include "zonedev/log.h"
#include "mm/keeper.h"
#include "mm/mig.h"
#include "mm/mm.h"
#include "mm/system.h"
#include "mm/uffd.h"

static int take_slot(struct zd_server *server, struct zd_mm *mm)
{
	struct zd_mm **slots;
	unsigned int i, nr = server->nr_slots;

	for (i = 0; i < nr; i++)
		if (!server->slots[i])
			break;
	if (i == nr) {
		nr = nr ? nr * 2 : 16;
		if (nr > 65536)
			return -ENOSPC;
		slots = zd_realloc(server->slots, nr * sizeof(*slots));
		if (!slots)
			return -ENOMEM;
		memset(&slots[i], 0, (nr - i) * sizeof(*slots));
		server->slots = slots;
		server->nr_slots = nr;
	}
	server->slots[i] = mm;
	mm->slot = i;
	return 0;
}

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
					zd_lru_add(&mm->server->lru, mm, first, nr, false);
				first = addr;
				nr = 0;
			}
			nr++;
		} else if (zd_entry_state(e) == ZD_ENTRY_DEVICE) {
			zd_get_page(zd_pfn_to_page(zd_entry_val(e)));
			zd_entry_store(zd_mm_entry(mm, addr),
				       e & ~(ZD_ENTRY_LOCK | ZD_ENTRY_WAIT));
			mm->nr_device++;
			mm->server->stats.c.pages_device++;
		} else if (zd_entry_state(e) == ZD_ENTRY_POISON) {
			zd_entry_store(zd_mm_entry(mm, addr), e);
		}
	}
	if (nr)
		zd_lru_add(&mm->server->lru, mm, first, nr, false);
}

static int fork_entries(struct zd_mm *parent, struct zd_mm *mm)
{
	const struct zd_ranges *r = &parent->ranges;
	int rc = 0;

	/* a listed range has its entries: in this order */
	for (size_t i = 0; !rc && i < r->nr; i++)
		rc = zd_table_reserve(&mm->table, r->v[i].start, r->v[i].end);
	if (!rc)
		rc = zd_ranges_copy(&mm->ranges, r);
	if (rc)
		return rc;

	for (size_t i = 0; i < mm->ranges.nr; i++)
		fork_range(parent, mm, &mm->ranges.v[i]);
	return zd_migs_fork(parent, mm);
}

int zd_mm_create(struct zd_server *server, int uffd, struct zd_mm *parent, struct zd_mm **out)
{
	struct zd_mm *mm = zd_alloc(sizeof(*mm));
	int rc = -ENOMEM;

	if (!mm)
		goto err_close;
	mm->server = server;
	mm->fault_around = parent ? parent->fault_around : 64;
	mm->poison_owed = parent && parent->poison_owed;
	mm->source.fd = uffd;
	mm->source.ready = zd_mm_ready;
	rc = zd_table_init(&mm->table);
	if (rc)
		goto err_free;
	rc = take_slot(server, mm);
	if (rc)
		goto err_table;
	rc = zd_server_add(server, &mm->source);
	if (rc)
		goto err_slot;
	cds_list_add_tail(&mm->node, &server->mms);
	if (parent) {
		mm->young_of = parent;
		parent->has_young = true;
		rc = fork_entries(parent, mm);
		if (rc) {
			/* the child lives; see err_close */
			if (dup(uffd) < 0)
				zd_log(ZD_LOG_ERR, "a forked child may read zeros");
			zd_mm_destroy(mm);
			return rc;
		}
	}
	*out = mm;
	return 0;

err_slot:
	server->slots[mm->slot] = NULL;
err_table:
	zd_table_destroy(&mm->table);
err_free:
	zd_free(mm);
err_close:
	/* a forked child whose descriptor is closed would read zeros */
	if (!parent) {
		zd_keeper_drop(server->keeper, uffd);
		close(uffd);
	}
	return rc;
}

void zd_mm_destroy(struct zd_mm *mm)
{
	struct zd_server *server = mm->server;
	struct zd_mig *mig = mm->out;

	mm->dead = true;	/* nothing is put in place any more */
	zd_mm_orphan(mm);
	while (mm->ranges.nr)
		zd_mm_forget(mm, mm->ranges.v[0].start, mm->ranges.v[0].end);
	if (mig) {
		/* the mover won't answer any more: land what it had */
		mm->out = NULL;
		mig->mm = NULL;
		for (unsigned int i = 0; i < mig->nr; i++)
			if (mig->page[i].error == -EINPROGRESS)
				mig->page[i].error = -ECANCELED;
		zd_out_moved(mig);
	}
	zd_migs_forget_mm(mm);
	if (mm->mover)
		mm->mover->destroy(mm);
	ZD_BUG_ON(mm->nr_device, "mm slot %u dies with %llu device pages", mm->slot,
		  (unsigned long long)mm->nr_device);
	zd_server_forget(server, mm);
	zd_server_remove(server, &mm->source);
	zd_keeper_drop(server->keeper, mm->source.fd);
	close(mm->source.fd);
	cds_list_del(&mm->node);
	server->slots[mm->slot] = NULL;
	zd_system_destroy(mm);
	zd_ranges_destroy(&mm->ranges);
	zd_ranges_destroy(&mm->fresh);
	zd_ranges_destroy(&mm->recent);
	zd_ranges_destroy(&mm->doubtful);
	zd_free(mm->moves);
	zd_table_destroy(&mm->table);
	zd_free(mm);
}

void zd_mm_died(struct zd_mm *mm)
{
	if (mm->dead)
		return;
	mm->dead = true;
	mm->server->host->died(mm);
}

int zd_mm_adopt(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	int rc = zd_table_reserve(&mm->table, start, end);

	return rc ? rc : zd_ranges_add(&mm->ranges, start, end);
}

int zd_mm_manage(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	int rc = zd_table_reserve(&mm->table, start, end);

	if (rc)
		return rc;
	/* A part may be managed already, with pages away: whatever fails here,
	 * its entries and its range stay. */
	rc = zd_uffd_register(zd_mm_uffd(mm), start, end - start);
	if (rc)
		return rc;
	/* -ENOMEM: registered but not listed, which a fault there mends */
	return zd_ranges_add(&mm->ranges, start, end);
}

void zd_mm_put_device(struct zd_mm *mm, zd_entry_t *entry, zd_entry_t next)
{
	struct zd_page *page = zd_pfn_to_page(zd_entry_val(*entry));

	zd_entry_store(entry, next);
	mm->nr_device--;
	mm->server->stats.c.pages_device--;
	zd_put_page(page);
}

void zd_mm_set_device(struct zd_mm *mm, uint64_t addr, zd_pfn_t pfn)
{
	zd_entry_store(zd_mm_entry(mm, addr), zd_entry_device(pfn, zd_lru_age(&mm->server->lru)));
	mm->nr_device++;
	mm->server->stats.c.pages_device++;
}

void zd_mm_poison(struct zd_mm *mm, uint64_t addr)
{
	int rc = zd_uffd_poison(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);

	zd_entry_store(zd_mm_entry(mm, addr), ZD_ENTRY_POISON);
	if (rc == -ESRCH) {	/* nobody lives to touch it */
		zd_mm_died(mm);
		return;
	}
	mm->server->stats.c.pages_poisoned++;
	zd_log(ZD_LOG_ERR, "page %#llx is lost: whoever touches it gets SIGBUS",
	       (unsigned long long)addr);
	/* not now (an event waits)?  The fault that follows the wake asks again */
	if (rc) {
		mm->poison_owed = true;
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
	}
}

/* One entry is no more: whatever it held is let go.  Locked ones have been
 * taken off their batch by zd_migs_drop() before. */
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
		zd_system_drop(entry);
		return;
	case ZD_ENTRY_DAX:	/* not in a managed range: its mapping's (devmap.h) */
		return;
	case ZD_ENTRY_POISON:
	case ZD_ENTRY_REMOVED:
	case ZD_ENTRY_NONE:
		break;
	}
	zd_entry_store(entry, 0);
}

void zd_mm_drop(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	size_t i = zd_ranges_first(&mm->ranges, start);

	zd_migs_drop(mm, start, end);
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
	zd_entry_t removed = zd_entry_removed(zd_now_ns());
	size_t i = zd_ranges_first(&mm->ranges, start);

	zd_mm_drop(mm, start, end);
	for (; i < mm->ranges.nr && mm->ranges.v[i].start < end; i++) {
		uint64_t addr = mm->ranges.v[i].start > start ? mm->ranges.v[i].start : start;
		uint64_t to = mm->ranges.v[i].end < end ? mm->ranges.v[i].end : end;

		for (; addr < to; addr += ZD_PAGE_SIZE)
			zd_entry_store(zd_mm_entry(mm, addr), removed);
	}
}

void zd_mm_forget(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	zd_mm_drop(mm, start, end);
	if (zd_ranges_remove(&mm->ranges, start, end))
		/* still listed: harmless, its entries are empty and a fault in
		 * it is looked up before it is served */
		zd_log(ZD_LOG_WARN, "out of memory: a range of no use stays listed");
}

void zd_mm_remap(struct zd_mm *mm, uint64_t from, uint64_t to, uint64_t len)
{
	/* The destination is free (late.c).  Adopting can only fail for want of
	 * memory; then faults at the new place would find no entries and read
	 * zeros: never. */
	if (zd_mm_adopt(mm, to, to + len)) {
		zd_log(ZD_LOG_ERR, "out of memory while following an mremap: "
		       "the address space can't be served any more");
		mm->server->host->kill(mm);
		return;
	}
	zd_migs_remap(mm, from, to, len);
	for (uint64_t off = 0; off < len; off += ZD_PAGE_SIZE) {
		zd_entry_t *old, *new;

		if (!zd_ranges_find(&mm->ranges, from + off))
			continue;
		old = zd_mm_entry(mm, from + off);
		new = zd_mm_entry(mm, to + off);
		if (!*old)
			continue;
		if (zd_entry_state(*old) == ZD_ENTRY_PRESENT) {
			/* its run names the old address: start a new one */
			zd_entry_t e = *old;

			zd_lru_forget(&mm->server->lru, e);
			zd_entry_store(old, 0);
			zd_lru_add(&mm->server->lru, mm, to + off, 1, e & ZD_ENTRY_HOT);
			continue;
		}
		if (zd_entry_state(*old) == ZD_ENTRY_SYSTEM)
			/* holders may ask; zd_page_address() */
			__atomic_store_n(&zd_pfn_to_page(zd_entry_val(*old))->word, to + off,
					 __ATOMIC_RELAXED);
		zd_entry_store(new, *old & ~ZD_ENTRY_WAIT);
		/* who waits at the old address looks again what is there now */
		if (*old & ZD_ENTRY_LOCK)
			zd_uffd_wake(zd_mm_uffd(mm), from + off, ZD_PAGE_SIZE);
		zd_entry_store(old, 0);
	}
	zd_mm_forget(mm, from, from + len);
}
