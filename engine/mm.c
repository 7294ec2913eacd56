/* SPDX-License-Identifier: MIT */
/*
 * Address spaces: what is managed of them, and which of their pages are on the device.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "engine/tier.h"
#include "engine/tier_queue.h"
#include "guard/keeper.h"
#include "space/uffd.h"
#include "zonedev/log.h"

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
	mm->source.ready = server->mm_ready;
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

void zd_mm_free(struct zd_mm *mm)
{
	zd_loop_remove(&mm->server->loop, &mm->source);
	zd_keeper_drop(mm->server->keeper, mm->source.fd);
	close(mm->source.fd);
	cds_list_del(&mm->node);
	mm->server->slots[mm->slot] = NULL;
	zd_ranges_destroy(&mm->ranges);
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
	/* [start, end) is several mappings, or has holes */
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
	/* a part that is registered and could not be listed is listed by a fault there */
	return zd_mm_list(mm, start, end);
}

void zd_mm_put_device(struct zd_mm *mm, zd_entry_t *entry, zd_entry_t next)
{
	zd_pfn_t pfn = zd_entry_val(*entry);

	zd_entry_store(entry, next);
	zd_mm_count_device(mm, pfn, -1);
	zd_put_page(zd_pfn_to_page(pfn));
}

void zd_mm_set_device(struct zd_mm *mm, uint64_t addr, zd_pfn_t pfn)
{
	zd_entry_store(zd_mm_entry(mm, addr), zd_entry_device(pfn, zd_lru_age(&mm->server->lru)));
	zd_mm_count_device(mm, pfn, 1);
	zd_tier_enter(mm, addr);
}

int zd_mm_poison_marked(struct zd_mm *mm, uint64_t addr)
{
	int rc = zd_mm_is_current(mm) ? zd_uffd_unmark(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE) :
					-EAGAIN;

	return rc ? rc : zd_uffd_poison(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

void zd_mm_poison(struct zd_mm *mm, uint64_t addr)
{
	int rc = zd_mm_poison_marked(mm, addr);

	zd_entry_store(zd_mm_entry(mm, addr), ZD_ENTRY_POISON);
	if (rc == -ESRCH) {	/* no thread is left to touch the page */
		zd_mm_died(mm);
		return;
	}
	mm->server->stats.c.pages_poisoned++;
	zd_log(ZD_LOG_ERR, "page %#llx is lost: whoever touches it gets SIGBUS",
	       (unsigned long long)addr);
	/* refused while an event waits: the fault that follows the wake tries again */
	if (rc) {
		mm->poison_owed = true;
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
	}
}
