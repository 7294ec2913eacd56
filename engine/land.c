/* SPDX-License-Identifier: MIT */
/*
 * The end of each page of a batch on its way out.
 *
 * A page of a batch leaves by one of three ways: its entries (the one that it
 * was moved from, and those of children forked meanwhile) become DEVICE; or its
 * content is put back where it was (the device failed, or a migrate_vma caller
 * did not want it); or it has no owner any more.  Putting back needs a COPY,
 * which an event that waits to be read forbids: such a page keeps its batch
 * alive until it succeeds.  Nothing is thrown away for want of an ioctl.
 *
 * A page that moved and could not be marked, since the address space changed in
 * between, goes back as well: without a mark it couldn't be told later where it
 * belongs.
 *
 * Zeros need no device page: they become REMOVED, under their mark.
 */
#include <errno.h>

#include "base/bug.h"
#include "base/fault_guard.h"
#include "base/trace.h"
#include "engine/land.h"
#include "engine/tier.h"
#include "engine/write.h"
#include "pages/pagemap.h"
#include "space/maps.h"
#include "space/uffd.h"
#include "zonedev/log.h"

/* The reason why a page stayed, for the totals. */
static void count_refusal(struct zd_mm_stats *c, int error)
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

/* Unlock an entry whose page is, or may be, in RAM. */
static void unlock_resident(struct zd_mm *mm, uint64_t addr, bool evictable, bool hot)
{
	bool wait = *zd_mm_entry(mm, addr) & ZD_ENTRY_WAIT;

	if (evictable && mm->server->track)
		zd_mm_lru_add(mm, addr, 1, hot);
	else
		zd_entry_store(zd_mm_entry(mm, addr), 0);
	if (wait)
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

void zd_out_dropped(struct zd_mig *mig, struct zd_mig_page *p)
{
	zd_mig_give_back(mig, p);
	p->step = ZD_MIG_DONE;
}

void zd_out_refused(struct zd_mig *mig, struct zd_mig_page *p)
{
	bool again;

	/* the kernel doesn't say which: a page that another address space maps
	 * is shared, any other is pinned */
	if (p->error == -EBUSY && p->mm && !zd_page_exclusive(p->mm->pagemap_fd, p->addr))
		p->error = -EMLINK;
	again = p->error == -EBUSY || p->error == -EMLINK || p->error == -EAGAIN ||
		p->error == -ECANCELED;
	if (p->mm)
		unlock_resident(p->mm, p->addr, again, false);
	ZD_BUG_ON(p->sharers, "a page that did not move has sharers");
	count_refusal(&mig->server->stats.c, p->error);
	zd_mig_give_back(mig, p);
	p->step = ZD_MIG_DONE;
}

void zd_out_lost(struct zd_mig *mig, struct zd_mig_page *p)
{
	struct zd_mig_sharer *s;

	for (s = p->sharers; s; s = s->next)
		if (s->mm)
			zd_mm_poison(s->mm, s->addr);
	if (p->mm)
		zd_mm_poison(p->mm, p->addr);
	zd_mig_give_back(mig, p);
	p->step = ZD_MIG_DONE;
}

void zd_out_send_back(struct zd_mig *mig, struct zd_mig_page *p, int error)
{
	char *buffer = zd_mig_buffer(mig, p - mig->page);

	/* the device's page is given back now: see write.h */
	if (p->content != buffer && zd_fault_copy(buffer, p->content, ZD_PAGE_SIZE).left) {
		zd_out_lost(mig, p);	/* the device's memory is gone as well */
		return;
	}
	zd_mig_give_back(mig, p);
	p->content = buffer;
	p->error = error;
	p->step = ZD_MIG_BACK;
}

static void record_device(struct zd_mm *mm, uint64_t addr, zd_pfn_t pfn)
{
	bool wait = *zd_mm_entry(mm, addr) & ZD_ENTRY_WAIT;

	zd_mm_set_device(mm, addr, pfn);
	if (wait)	/* fault again: it is a device page now */
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

static void record_zero(struct zd_mm *mm, uint64_t addr)
{
	bool wait = *zd_mm_entry(mm, addr) & ZD_ENTRY_WAIT;

	zd_entry_store(zd_mm_entry(mm, addr), ZD_ENTRY_REMOVED);
	if (wait)
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
}

/* Content is on the device (or is zeros): record that for all owners. */
static void store(struct zd_mig *mig, struct zd_mig_page *p)
{
	struct zd_page *page = zd_pfn_to_page(p->pfn);
	bool zero = p->zero, owned;
	struct zd_mig_sharer *s;

	if (p->recalled && !p->live && !zd_mig_has_owner(p)) {
		p->error = -ECANCELED;
		zd_out_dropped(mig, p);
		return;
	}
	p->step = ZD_MIG_DONE;
	if (zero) {
		mig->server->stats.c.pages_zero++;
		zd_mig_give_back(mig, p);
		if (p->mm)
			record_zero(p->mm, p->addr);
		for (s = p->sharers; s; s = s->next)
			if (s->mm)
				record_zero(s->mm, s->addr);
		return;
	}
	if (p->live ? zd_percpu_ref_is_dying(&mig->pgmap->priv->ref) : zd_page_init(page)) {
		/* the device is being removed: keep the content */
		if (p->live)
			p->pfn = 0;	/* migrate_vma.c gives it back */
		zd_out_send_back(mig, p, -ENODEV);
		return;
	}
	page->word = p->addr;	/* taken: migrate_vma.c */
	mig->gone++;
	mig->server->stats.c.pages_out++;
	mig->server->stats.c.bytes_to_device += ZD_PAGE_SIZE;
	mig->server->lru.clock++;
	/* the first owner gets the batch's reference */
	if (p->mm)
		record_device(p->mm, p->addr, p->pfn);
	owned = p->mm;
	for (s = p->sharers; s; s = s->next) {
		if (!s->mm)
			continue;
		if (owned)
			zd_get_page(page);
		owned = true;
		record_device(s->mm, s->addr, p->pfn);
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

bool zd_out_back_one(struct zd_mig *mig, const struct zd_mig_page *p, struct zd_mm **mm,
		     uint64_t addr, bool wanted)
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
			return false;	/* or the mark has moved with its mapping */
		rc = 0;
	} else {
		/* a thread that is known to wait is woken below */
		bool wake = !(*zd_mm_entry(*mm, addr) & ZD_ENTRY_WAIT);

		rc = zd_uffd_copy(zd_mm_uffd(*mm), addr, p->content, ZD_PAGE_SIZE, wake);
		if (rc == -EAGAIN || rc == -ENOMEM)
			return false;
		/* The mapping has moved a moment ago; its event will say where to. */
		if (rc == -ENOENT && zd_uffd_changing(zd_mm_uffd(*mm)))
			return false;
	}
	if (rc == -ENOENT) {	/* can't be: listed ranges are registered */
		zd_log(ZD_LOG_ERR,
		       "the place of page %#llx is not ours: its process would read "
		       "zeros, and is killed",
		       (unsigned long long)addr);
		mig->server->host->kill(*mm);
	}
	/* EEXIST can't be: the entry was locked.  ESRCH: the process is ending. */
	if (rc > 0)
		mig->server->resident++;
	unlock_resident(*mm, addr, rc > 0, wanted);
	*mm = NULL;
	return true;
}

static void back(struct zd_mig *mig, struct zd_mig_page *p)
{
	struct zd_mig_sharer *s;
	bool done = zd_out_back_one(mig, p, &p->mm, p->addr, false);

	for (s = p->sharers; s; s = s->next)
		done &= zd_out_back_one(mig, p, &s->mm, s->addr, false);
	if (!done) {
		mig->retry = true;
		return;
	}
	if (p->error)
		count_refusal(&mig->server->stats.c, p->error);
	zd_mig_give_back(mig, p);
	p->step = ZD_MIG_DONE;
}

/* The server's thread; doesn't block.  May free @mig. */
void zd_out_land(struct zd_mig *mig)
{
	unsigned int before = mig->gone;
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
	if (mig->gone > before)
		zd_server_find_tier(mig->server, mig->dev)->pages_in += mig->gone - before;
	if (!done)
		return;
	ZD_PROBE3(migrate_end, 0, mig->first, mig->gone);
	zd_mig_free(mig);
}
