/* SPDX-License-Identifier: MIT */
/*
 * Address spaces: creation, fork, death, and what events do to their entries.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "zonedev/log.h"
#include "guard/keeper.h"
#include "space/maps.h"
#include "engine/mig.h"
#include "engine/mm.h"
#include "engine/system.h"
#include "space/uffd.h"

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
					zd_mm_lru_add(mm, first, nr, false);
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

	/* a listed range has its entries: in this order */
	for (size_t i = 0; !rc && i < r->nr; i++)
		rc = zd_table_reserve(&mm->table, r->v[i].start, r->v[i].end);
	/* what the child has of them: MADV_DONTFORK leaves some out */
	for (size_t i = 0; !rc && i < r->nr; i++)
		if (zd_mm_list(mm, r->v[i].start, r->v[i].end))
			rc = zd_mm_adopt(mm, r->v[i].start, r->v[i].end);
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
	mm->pagemap_fd = -1;
	mm->unborn = parent;
	rc = zd_table_init(&mm->table);
	if (rc)
		goto err_free;
	rc = take_slot(server, mm);
	if (rc)
		goto err_table;
	if (!parent) {
		rc = zd_loop_add(&server->loop, &mm->source);
		if (rc)
			goto err_slot;
	}
	cds_list_add_tail(&mm->node, &server->mms);
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

void zd_mm_born(struct zd_mm *parent, struct zd_mm *child)
{
	int rc = fork_entries(parent, child);

	if (!rc)
		rc = zd_loop_add(&child->server->loop, &child->source);
	child->unborn = false;
	if (!rc)
		return;
	zd_log(ZD_LOG_ERR, "a forked child can't be served (%s): it will hang at the first page "
	       "that is away", strerrordesc_np(-rc));
	/* nor may the child read zeros: one that lives keeps its userfaultfd */
	if (dup(zd_mm_uffd(child)) < 0)
		zd_log(ZD_LOG_ERR, "a forked child may read zeros");
	zd_mm_died(child);
}

/* No log may name @mm any more. */
static void forget_unborn(struct zd_mm *mm)
{
	struct zd_mm *parent;

	cds_list_for_each_entry(parent, &mm->server->mms, node)
		for (unsigned int i = 0; i < parent->nr_changes; i++)
			if (parent->changes[i].child == mm)
				parent->changes[i].child = NULL;
}

void zd_mm_destroy(struct zd_mm *mm)
{
	struct zd_server *server = mm->server;
	struct zd_mig *mig = mm->out;

	mm->dead = true;	/* nothing is put in place any more */
	if (mm->unborn)
		forget_unborn(mm);
	zd_mm_end_log(mm);
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
	zd_loop_remove(&server->loop, &mm->source);
	zd_keeper_drop(server->keeper, mm->source.fd);
	close(mm->source.fd);
	cds_list_del(&mm->node);
	server->slots[mm->slot] = NULL;
	zd_system_destroy(mm);
	zd_ranges_destroy(&mm->ranges);
	zd_free(mm->changes);
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

int zd_mm_list(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	uint64_t middle = (start + (end - start) / 2) & ~(ZD_PAGE_SIZE - 1);
	int has = zd_uffd_has(zd_mm_uffd(mm), start, end - start);

	if (has < 0)
		return has;
	if (has)
		return zd_mm_adopt(mm, start, end);
	if (middle == start)
		return 0;
	/* several mappings, or holes, or what was mapped in one since */
	has = zd_mm_list(mm, start, middle);
	return has ? has : zd_mm_list(mm, middle, end);
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
	/* what is registered and not listed a fault there mends */
	return zd_mm_list(mm, start, end);
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

int zd_mm_poison_marked(struct zd_mm *mm, uint64_t addr)
{
	int rc = zd_mm_is_current(mm) ? zd_uffd_unmark(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE) : -EAGAIN;

	return rc ? rc : zd_uffd_poison(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

void zd_mm_poison(struct zd_mm *mm, uint64_t addr)
{
	int rc = zd_mm_poison_marked(mm, addr);

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

/* [addr, end) is in RAM, and may not be for long. */
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

/* Descriptors of [start, end): a thread that asks for one looks first whether its page is
 * still there. */
static void unsettle(struct zd_mm *mm, uint64_t start, uint64_t end)
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

		unsettle(mm, pos, to);
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
		/* still listed: harmless, its entries are empty and a fault in
		 * it is looked up before it is served */
		zd_log(ZD_LOG_WARN, "out of memory: a range of no use stays listed");
}

/* The entry of @from, that isn't zero, becomes @to's. */
static void remap_entry(struct zd_mm *mm, uint64_t from, uint64_t to)
{
	zd_entry_t *old = zd_mm_entry(mm, from), e = *old;

	if (zd_entry_state(e) == ZD_ENTRY_PRESENT) {
		/* its run names the old address: start a new one */
		zd_lru_forget(&mm->server->lru, e);
		zd_entry_store(old, 0);
		zd_mm_lru_add(mm, to, 1, e & ZD_ENTRY_HOT);
		return;
	}
	if (zd_entry_state(e) == ZD_ENTRY_SYSTEM)
		/* holders may ask; zd_page_address() */
		__atomic_store_n(&zd_pfn_to_page(zd_entry_val(e))->word, to, __ATOMIC_RELAXED);
	zd_entry_store(zd_mm_entry(mm, to), e & ~ZD_ENTRY_WAIT);
	/* who waits at the old address looks again what is there now */
	if (e & ZD_ENTRY_LOCK)
		zd_uffd_wake(zd_mm_uffd(mm), from, ZD_PAGE_SIZE);
	zd_entry_store(old, 0);
}

void zd_mm_remap(struct zd_mm *mm, uint64_t from, uint64_t to, uint64_t len)
{
	/* The destination is free (changes.c).  Adopting can only fail for want of
	 * memory; then faults at the new place would find no entries: never. */
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
