/* SPDX-License-Identifier: MIT */
/* Device pages go from one tier to another; the mechanism is told in shift.h. */
#include <errno.h>

#include "base/bug.h"
#include "base/fault_guard.h"
#include "engine/delayed_put.h"
#include "engine/distrust.h"
#include "engine/home.h"
#include "engine/shift.h"
#include "engine/tier.h"
#include "engine/tier_queue.h"
#include "engine/write.h"
#include "space/uffd.h"

#define SHIFTS_MAX	4	/* in flight at a time */

static bool copy_page(void *to, const void *from)
{
	return !zd_fault_copy(to, from, ZD_PAGE_SIZE).left;
}

/* The thread that waits for the page of @addr faults again. */
static void unlock(struct zd_mm *mm, uint64_t addr)
{
	zd_entry_t *entry = zd_mm_entry(mm, addr), e = *entry;

	zd_entry_store(entry, e & ~(ZD_ENTRY_LOCK | ZD_ENTRY_WAIT));
	if (e & ZD_ENTRY_WAIT)
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

static void put_old(struct zd_mig_page *p)
{
	if (p->from)
		zd_put_page(zd_pfn_to_page(p->from));
	p->from = 0;
}

/* The page stays where it was; or was dropped, or went home meanwhile. */
static void stays(struct zd_mig *mig, struct zd_mig_page *p)
{
	p->step = ZD_MIG_DONE;
	zd_mig_give_back(mig, p);
	if (!p->mm) {
		put_old(p);
		return;
	}
	unlock(p->mm, p->addr);
	zd_tier_enter(p->mm, p->addr);	/* it counts as new */
}

/* The other device has the content: the entry is of its page. */
static void store(struct zd_mig *mig, struct zd_mig_page *p)
{
	struct zd_page *page = zd_pfn_to_page(p->pfn);
	struct zd_mm *mm = p->mm;
	zd_entry_t *entry;

	if (zd_page_init(page)) {	/* that device is being removed */
		p->error = -ENODEV;
		stays(mig, p);
		return;
	}
	p->step = ZD_MIG_DONE;
	if (!mm) {
		zd_put_page(page);
		put_old(p);
		return;
	}
	page->word = p->addr;	/* taken: hmm/migrate_vma.c */
	entry = zd_mm_entry(mm, p->addr);
	zd_mm_count_device(mm, p->from, -1);
	zd_entry_store(entry, zd_entry_device(p->pfn, zd_entry_age(*entry)) |
				      (*entry & (ZD_ENTRY_LOCK | ZD_ENTRY_WAIT)));
	zd_mm_count_device(mm, p->pfn, 1);
	unlock(mm, p->addr);
	zd_tier_enter(mm, p->addr);
	zd_server_tier_of(mig->server, p->from)->pages_left++;
	zd_server_tier_of(mig->server, p->pfn)->pages_in++;
	mig->gone++;
	p->pfn = 0;
	put_old(p);
}

/* mig->land.  May free @mig. */
static void land(struct zd_mig *mig)
{
	bool done = true;

	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];

		if (p->step == ZD_MIG_STORE)
			store(mig, p);
		if (p->step == ZD_MIG_BACK)
			stays(mig, p);
		done &= p->step == ZD_MIG_DONE;
	}
	if (!done)
		return;
	mig->server->nr_shifts--;
	zd_flush_delayed_puts(mig->server);
	zd_mig_free(mig);
}

/* A thread waits for the page, which has been read: put it in place.  False: not now, and the
 * thread faults again. */
static bool serve(struct zd_mig_page *p)
{
	zd_entry_t *entry = zd_mm_entry(p->mm, p->addr), e = *entry;
	int rc;

	zd_entry_store(entry, e & ~(ZD_ENTRY_LOCK | ZD_ENTRY_WAIT));
	rc = zd_home_place(p->mm, p->addr, 1, p->content, false);
	zd_uffd_wake(zd_mm_uffd(p->mm), p->addr, ZD_PAGE_SIZE);
	if (rc <= 0) {
		zd_entry_store(entry, e & ~ZD_ENTRY_WAIT);
		return false;
	}
	p->mm->server->stats.c.faults_home++;
	p->mm = NULL;
	p->from = 0;	/* zd_home_place() has put it */
	return true;
}

/* The new page of @p has been read into the buffer: what next? */
static enum zd_mig_step step_after_read(struct zd_mig *mig, struct zd_mig_page *p)
{
	struct zd_device *dev = mig->dev;
	void *memory = NULL;

	if (!p->mm || p->error)
		return ZD_MIG_BACK;
	if (*zd_mm_entry(p->mm, p->addr) & ZD_ENTRY_WAIT && serve(p))
		return ZD_MIG_BACK;
	if (p->pfn && dev->ops->direct_access)
		memory = dev->ops->direct_access(dev, p->pfn);
	if (memory && copy_page(memory, p->content))
		return ZD_MIG_STORE;
	/* where the memory fails under the store, too: ->submit says what is wrong with the page */
	return ZD_MIG_WRITE;
}

/* Every page has been read, or can't be. */
static void after_read(struct zd_mig *mig)
{
	unsigned int to_write = 0, nr = 0;

	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];

		p->step = step_after_read(mig, p);
		to_write += p->step == ZD_MIG_WRITE;
		nr++;
	}
	if (to_write < nr)
		land(mig);
	if (to_write)
		zd_mig_write(mig);
}

/* ->done of the device that the pages are on. */
static void have_read(struct zd_device_io *io)
{
	struct zd_mig *mig = io->owner;

	zd_mig_answered(mig);
	for (unsigned int k = 0; k < io->nr; k++) {
		struct zd_mig_page *p = &mig->page[mig->io_index[k]];

		p->error = io->pages[k].error;
		p->content = p->error ? NULL : zd_mig_buffer(mig, mig->io_index[k]);
	}
	after_read(mig);
}

/* Read the contents into the buffer. */
static void read_all(struct zd_mig *mig)
{
	struct zd_device *from = mig->from;
	unsigned int nr = 0;

	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];
		void *buffer = zd_mig_buffer(mig, i), *memory = NULL;

		if (from->ops->direct_access)
			memory = from->ops->direct_access(from, p->from);
		if (!memory) {
			mig->io_page[nr] = (struct zd_io_page){ p->from, buffer, 0 };
			mig->io_index[nr++] = i;
		} else if (copy_page(buffer, memory)) {
			p->content = buffer;
		} else {
			p->error = -EIO;
		}
	}
	if (!nr) {
		after_read(mig);
		return;
	}
	zd_mig_submit(mig, from, ZD_FROM_DEVICE, nr, have_read);
}

static void lock_pages(struct zd_mig *mig, const struct zd_place *places, const zd_pfn_t *pfns)
{
	for (unsigned int i = 0; i < mig->nr; i++) {
		zd_entry_t *entry = zd_mm_entry(places[i].mm, places[i].addr);

		ZD_BUG_ON(*entry & ZD_ENTRY_LOCK, "page %#llx is in two batches",
			  (unsigned long long)places[i].addr);
		mig->page[i] = (struct zd_mig_page){
			.mm = places[i].mm, .addr = places[i].addr, .pfn = pfns[i],
			.from = zd_entry_val(*entry),
		};
		zd_entry_store(entry, *entry | ZD_ENTRY_LOCK);
	}
}

/* ->submit, ->alloc_pages and ->direct_access of both drivers are called. */
int zd_shift(struct zd_server *server, const struct zd_place *places, unsigned int nr,
	     const struct zd_shift_want *want)
{
	struct zd_device *to = want->to->dev;
	zd_pfn_t pfns[ZD_MIG_MAX] = { 0 };
	struct zd_pagemap *pgmap;
	struct zd_mig *mig;
	int got;

	if (server->nr_shifts >= SHIFTS_MAX)
		return -ENOBUFS;
	pgmap = zd_get_dev_pagemap(to->pgmap.pfn);
	if (!pgmap)
		return -ENODEV;
	got = zd_tier_alloc(server, want->to, nr, pfns);
	if (got < 0) {
		zd_put_dev_pagemap(pgmap);
		return got;
	}
	mig = zd_mig_new(server, NULL, ZD_FROM_DEVICE);
	if (!mig) {
		zd_tier_unalloc(to, got, pfns);
		zd_put_dev_pagemap(pgmap);
		return -ENOMEM;
	}
	server->nr_shifts++;
	nr = want->pass_on ? nr : (unsigned int)got;
	mig->from = zd_server_device(server,
				     zd_entry_val(*zd_mm_entry(places[0].mm, places[0].addr)));
	mig->dev = to;
	mig->pgmap = pgmap;
	mig->pass_on = want->pass_on;
	mig->land = land;
	mig->landed = want->landed;
	mig->data = want->data;
	mig->nr = nr;
	lock_pages(mig, places, pfns);
	read_all(mig);
	return nr;
}

void zd_shift_fault(struct zd_mm *mm, uint64_t addr, uint64_t start_ns)
{
	struct zd_mig *mig;

	if (!mm->server->nr_shifts)
		return;
	cds_list_for_each_entry(mig, &mm->server->migs, node) {
		for (unsigned int i = 0; mig->from && i < mig->nr; i++) {
			struct zd_mig_page *p = &mig->page[i];

			if (p->mm != mm || p->addr != addr || p->step != ZD_MIG_WRITE)
				continue;
			if (serve(p))
				zd_stats_fault_end(&mm->server->stats, addr, start_ns);
			return;
		}
	}
}
