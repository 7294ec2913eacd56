/* SPDX-License-Identifier: MIT */
/*
 * Out: program memory to the device.
 *
 *	lock entries, take device pages     zd_out_start
 *	MOVE to staging, mark the place     the mover
 *	content to the device               zd_out_moved, stored
 *	entries become device pages         zd_out_land
 *
 * A page of a batch leaves by one of three ways: its entries (the one that it
 * was moved from, and those of children forked meanwhile) become DEVICE; or its
 * content is put back where it was (the device failed, or a migrate_vma caller
 * did not want it); or nobody owns it any more.  Putting back needs a COPY,
 * which an event that waits to be read forbids: such a page keeps its batch
 * alive until it succeeds.  Nothing is thrown away for want of an ioctl.
 *
 * A page that moved and could not be marked, since the address space changed in
 * between, goes back as well: without a mark nobody could tell later where it
 * belongs.
 *
 * Zeros need no device page: they become REMOVED, under their mark.
 */
#include <errno.h>
#include <string.h>

#include "base/bug.h"
#include "base/trace.h"
#include "pages/pagemap.h"
#include "space/maps.h"
#include "engine/mig.h"
#include "space/uffd.h"
#include "zonedev/log.h"

void zd_out_count_refusal(struct zd_mm_stats *c, int error)
{
	switch (error) {
	case -EBUSY:
		c->refused_pinned++;
		break;
	case -EMLINK:
		c->refused_shared++;
		break;
	case -ENOENT:
	case -EFAULT:	/* MADV_GUARD_INSTALL's marker is there */
		c->refused_absent++;
		break;
	case -EINVAL:
	case -EPERM:
		c->refused_protection++;
		break;
	case -EAGAIN:
	case -ECANCELED:
		c->refused_busy++;
		break;
	default:
		c->refused_device++;
	}
}

static void give_back(struct zd_mig *mig, struct zd_mig_page *p)
{
	struct zd_device *dev = mig->server->dev;

	if (p->pfn)
		dev->ops->unalloc_pages(dev, 1, &p->pfn);
	p->pfn = 0;
}

/* Unlock an entry whose page is, or may be, in RAM. */
static void unlock_resident(struct zd_mm *mm, uint64_t addr, bool evictable)
{
	bool wait = *zd_mm_entry(mm, addr) & ZD_ENTRY_WAIT;

	if (evictable && mm->server->track)
		zd_mm_lru_add(mm, addr, 1, false);
	else
		zd_entry_store(zd_mm_entry(mm, addr), 0);
	if (wait)
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

/* The move was refused: the page is where it was. */
static void refuse(struct zd_mig *mig, struct zd_mig_page *p)
{
	bool again;

	/* the kernel doesn't say which: a page that another address space maps
	 * is shared, any other is pinned */
	if (p->error == -EBUSY && p->mm && !zd_page_exclusive(p->mm->pagemap_fd, p->addr))
		p->error = -EMLINK;
	again = p->error == -EBUSY || p->error == -EMLINK || p->error == -EAGAIN ||
		p->error == -ECANCELED;
	if (p->mm)
		unlock_resident(p->mm, p->addr, again);
	ZD_BUG_ON(p->sharers, "a page that did not move has sharers");
	zd_out_count_refusal(&mig->server->stats.c, p->error);
	give_back(mig, p);
	p->step = ZD_MIG_DONE;
}

static void settle_device(struct zd_mm *mm, uint64_t addr, zd_pfn_t pfn)
{
	bool wait = *zd_mm_entry(mm, addr) & ZD_ENTRY_WAIT;

	zd_mm_set_device(mm, addr, pfn);
	if (wait)	/* fault again: it is a device page now */
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

static void settle_zero(struct zd_mm *mm, uint64_t addr)
{
	bool wait = *zd_mm_entry(mm, addr) & ZD_ENTRY_WAIT;

	zd_entry_store(zd_mm_entry(mm, addr), ZD_ENTRY_REMOVED);
	if (wait)
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

/* Content is on the device (or is zeros): tell all owners. */
static void store(struct zd_mig *mig, struct zd_mig_page *p)
{
	struct zd_page *page = zd_pfn_to_page(p->pfn);
	bool zero = p->zero, owned;
	struct zd_mig_sharer *s;

	p->step = ZD_MIG_DONE;
	if (zero) {
		mig->server->stats.c.pages_zero++;
		give_back(mig, p);
		if (p->mm)
			settle_zero(p->mm, p->addr);
		for (s = p->sharers; s; s = s->next)
			if (s->mm)
				settle_zero(s->mm, s->addr);
		return;
	}
	if (p->live ? zd_percpu_ref_is_dying(&mig->pgmap->priv->ref) : zd_page_init(page)) {
		/* the device is being removed: keep the content */
		p->error = -ENODEV;
		p->step = ZD_MIG_BACK;
		if (p->live)
			p->pfn = 0;	/* migrate_vma.c gives it back */
		return;
	}
	page->word = p->addr;	/* taken: migrate_vma.c */
	mig->gone++;
	mig->server->stats.c.pages_out++;
	mig->server->stats.c.bytes_to_device += ZD_PAGE_SIZE;
	mig->server->lru.clock++;
	/* the first owner gets our reference */
	if (p->mm)
		settle_device(p->mm, p->addr, p->pfn);
	owned = p->mm;
	for (s = p->sharers; s; s = s->next) {
		if (!s->mm)
			continue;
		if (owned)
			zd_get_page(page);
		owned = true;
		settle_device(s->mm, s->addr, p->pfn);
	}
	p->pfn = 0;
	if (!owned)
		zd_put_page(page);
}

/* Did the page leave a mark that isn't there any more?  Then the program has dropped it
 * meanwhile (by a madvise whose event came before the page moved). */
static bool is_dropped(const struct zd_mm *mm, const struct zd_mig_page *p, uint64_t addr)
{
	bool marked;

	return p->marked && mm->pagemap_fd >= 0 &&
	       !zd_marks_read(mm->pagemap_fd, addr, 1, &marked) && !marked;
}

/* One owner gets the content back.  False: not now. */
static bool back_one(struct zd_mig *mig, const struct zd_mig_page *p, struct zd_mm **mm,
		     uint64_t addr)
{
	ssize_t rc;

	if (!*mm)
		return true;
	if ((*mm)->dead) {
		rc = -ESRCH;
	} else if (!zd_mm_is_current(*mm)) {
		return false;
	} else if (is_dropped(*mm, p, addr)) {
		if (zd_uffd_changing(zd_mm_uffd(*mm)))
			return false;	/* or it has moved with its mapping */
		rc = 0;
	} else {
		rc = zd_uffd_copy(zd_mm_uffd(*mm), addr, p->content, ZD_PAGE_SIZE, true);
		if (rc == -EAGAIN || rc == -ENOMEM)
			return false;
		/* The mapping has gone a moment ago, and its event will say where to. */
		if (rc == -ENOENT && zd_uffd_changing(zd_mm_uffd(*mm)))
			return false;
	}
	if (rc == -ENOENT) {	/* can't be: what is listed is registered */
		zd_log(ZD_LOG_ERR, "the place of page %#llx is not ours: its process would read "
		       "zeros, and is killed", (unsigned long long)addr);
		mig->server->host->kill(*mm);
	}
	/* EEXIST can't be: the entry was locked.  ESRCH: its end is on the way. */
	if (rc > 0)
		mig->server->resident++;
	unlock_resident(*mm, addr, rc > 0);
	*mm = NULL;
	return true;
}

static void back(struct zd_mig *mig, struct zd_mig_page *p)
{
	struct zd_mig_sharer *s;
	bool done = back_one(mig, p, &p->mm, p->addr);

	for (s = p->sharers; s; s = s->next)
		done &= back_one(mig, p, &s->mm, s->addr);
	if (!done) {
		mig->retry = true;
		return;
	}
	if (p->error)
		zd_out_count_refusal(&mig->server->stats.c, p->error);
	give_back(mig, p);
	p->step = ZD_MIG_DONE;
}

void zd_out_land(struct zd_mig *mig)
{
	bool done = true;

	mig->retry = false;
	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];

		if (p->step == ZD_MIG_STORE)
			store(mig, p);
		if (p->step == ZD_MIG_BACK)
			back(mig, p);
		done &= p->step == ZD_MIG_DONE;
	}
	if (!done)
		return;
	ZD_PROBE3(migrate_end, 0, mig->first, mig->gone);
	zd_mig_free(mig);
}

/* ->done of the device: the buffer's pages are on it, or not. */
static void stored(struct zd_device_io *io)
{
	struct zd_mig *mig = io->owner;
	struct zd_server *server = mig->server;

	for (unsigned int k = 0; k < io->nr; k++) {
		struct zd_mig_page *p = &mig->page[mig->io_index[k]];

		p->error = io->pages[k].error;
		p->step = p->error ? ZD_MIG_BACK : ZD_MIG_STORE;
		if (p->error && !server->write_failed) {
			server->write_failed = true;
			zd_log(ZD_LOG_WARN, "%s: can't write: %s; its pages stay in memory",
			       server->dev->name, strerrordesc_np(-p->error));
		}
	}
	zd_out_land(mig);
}

static bool has_owner(const struct zd_mig_page *p)
{
	const struct zd_mig_sharer *s;

	if (p->mm)
		return true;
	for (s = p->sharers; s; s = s->next)
		if (s->mm)
			return true;
	return false;
}

/* The content can't be had any more: an owner that lives on must not read
 * zeros instead. */
static void lose(struct zd_mig *mig, struct zd_mig_page *p)
{
	struct zd_mig_sharer *s;

	for (s = p->sharers; s; s = s->next)
		if (s->mm)
			zd_mm_poison(s->mm, s->addr);
	if (p->mm)
		zd_mm_poison(p->mm, p->addr);
	give_back(mig, p);
	p->step = ZD_MIG_DONE;
}

/* Where the content of page @i goes: device memory, if we can address it. */
static void *content_of(struct zd_mig *mig, unsigned int i)
{
	struct zd_device *dev = mig->server->dev;
	void *content = NULL;

	if (!mig->fetched && dev->ops->direct_access)
		content = dev->ops->direct_access(dev, mig->page[i].pfn);
	return content ? content : zd_mig_buffer(mig, i);
}

/* Read what was moved and has not been read yet. */
static int fetch(struct zd_mm *mm, struct zd_mig *mig)
{
	uint16_t slot[ZD_MIG_MAX];
	void *dst[ZD_MIG_MAX];
	bool zero[ZD_MIG_MAX];
	unsigned int nr = 0;
	int rc;

	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];

		if (p->step != ZD_MIG_MOVING || p->error || p->content)
			continue;
		slot[nr] = i;
		dst[nr++] = content_of(mig, i);
	}
	if (!nr)
		return 0;
	rc = mm ? mm->mover->fetch(mm, nr, slot, dst, zero) : -ESRCH;
	for (unsigned int k = 0; !rc && k < nr; k++) {
		mig->page[slot[k]].content = dst[k];
		/* a migrate_vma caller gets the device page that it chose */
		mig->page[slot[k]].zero = zero[k] && !mig->fetched;
	}
	return rc;
}

void zd_out_prefetch(struct zd_mig *mig)
{
	mig->mm->mover->progress(mig->mm, mig);
	/* a failure is repeated, and dealt with, in zd_out_moved() */
	fetch(mig->mm, mig);
}

/* Pages that did not move, or whose owners are gone, are done; the others are
 * put in @slot. */
static unsigned int sort_out(struct zd_mig *mig, uint16_t *slot)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];

		if (p->error) {
			refuse(mig, p);
			continue;
		}
		mig->server->resident -= mig->server->resident > 0;
		if (!has_owner(p)) {
			give_back(mig, p);
			p->step = ZD_MIG_DONE;
			continue;
		}
		slot[nr++] = i;
	}
	return nr;
}

/* Content is in p->content: done for direct memory, the rest goes to the
 * device. */
static void submit(struct zd_mig *mig, unsigned int nr, const uint16_t *slot)
{
	struct zd_device *dev = mig->server->dev;
	unsigned int k = 0;

	for (unsigned int j = 0; j < nr; j++) {
		struct zd_mig_page *p = &mig->page[slot[j]];

		if (p->content != zd_mig_buffer(mig, slot[j]) || p->zero) {
			p->step = ZD_MIG_STORE;
			continue;
		}
		mig->io_page[k] = (struct zd_io_page){ p->pfn, p->content, 0 };
		mig->io_index[k++] = slot[j];
	}
	if (!k) {
		zd_out_land(mig);
		return;
	}
	mig->io = (struct zd_device_io){
		.dir = ZD_TO_DEVICE, .nr = k, .pages = mig->io_page,
		.done = stored, .owner = mig,
	};
	dev->ops->submit(dev, &mig->io);
}

void zd_out_moved(struct zd_mig *mig)
{
	uint16_t slot[ZD_MIG_MAX];
	struct zd_mm *mm = mig->mm;
	unsigned int nr = sort_out(mig, slot), kept = 0;

	if (mm)
		mm->out = NULL;
	fetch(mm, mig);
	if (mm)
		mm->mover->release(mm);
	for (unsigned int j = 0; j < nr; j++) {
		struct zd_mig_page *p = &mig->page[slot[j]];

		if (!p->content) {
			lose(mig, p);
		} else if (!p->marked) {
			p->error = -EAGAIN;
			p->step = ZD_MIG_BACK;
			mig->retry = true;
		} else {
			slot[kept++] = slot[j];
		}
	}
	if (mig->fetched) {
		mig->fetched(mig);
		return;
	}
	submit(mig, kept, slot);
}

/* ->alloc_pages, which must not find the device full for pages that are home. */
static int take_pages(struct zd_server *server, struct zd_device *dev, unsigned int nr,
		      zd_pfn_t *pfns)
{
	int got = dev->ops->alloc_pages(dev, nr, pfns), more;

	if (got < 0 || got == (int)nr || !server->nr_put_later)
		return got;
	zd_server_settle(server);
	more = dev->ops->alloc_pages(dev, nr - got, pfns + got);
	return more > 0 ? got + more : got;
}

int zd_out_start(struct zd_mm *mm, const uint64_t *addrs, unsigned int nr,
		 const struct zd_out_want *want)
{
	struct zd_server *server = mm->server;
	zd_pfn_t pfns[ZD_MIG_MAX] = { 0 };
	struct zd_pagemap *pgmap;
	struct zd_mig *mig;
	int rc;

	if (!mm->mover || mm->out || mm->dead || !zd_mm_is_current(mm))
		return -EBUSY;
	pgmap = zd_get_dev_pagemap(server->dev->pgmap.pfn);
	if (!pgmap)
		return -ENODEV;
	if (want->dev) {
		rc = take_pages(server, want->dev, nr, pfns);
		if (rc <= 0) {
			rc = rc ? rc : -ENOSPC;
			goto err_put;
		}
		nr = rc;
	}
	mig = zd_mig_new(server, mm, ZD_TO_DEVICE);
	if (!mig) {
		rc = -ENOMEM;
		goto err_unalloc;
	}
	mig->pgmap = pgmap;
	mig->fetched = want->fetched;
	mig->landed = want->landed;
	mig->landed_data = want->data;
	mig->nr = nr;
	for (unsigned int i = 0; i < nr; i++) {
		zd_entry_t *entry = zd_mm_entry(mm, addrs[i]);

		mig->page[i] = (struct zd_mig_page){
			.mm = mm, .addr = addrs[i], .pfn = pfns[i], .error = -EINPROGRESS,
		};
		if (zd_entry_state(*entry) == ZD_ENTRY_PRESENT)
			zd_lru_forget(&server->lru, *entry);
		zd_entry_store(entry, ZD_ENTRY_LOCK);
	}
	mig->first = addrs[0];
	mig->gone = 0;
	ZD_PROBE3(migrate_begin, 0, addrs[0], nr);
	mm->out = mig;
	if (mm->mover->start(mm, mig)) {
		for (unsigned int i = 0; i < nr; i++)
			mig->page[i].error = -EAGAIN;
		zd_out_moved(mig);
	}
	return nr;

err_unalloc:
	if (want->dev)
		want->dev->ops->unalloc_pages(want->dev, nr, pfns);
err_put:
	zd_put_dev_pagemap(pgmap);
	return rc;
}
