/* SPDX-License-Identifier: MIT */
/*
 * Out: program memory to the device.
 *
 *	lock entries, take device pages     zd_out_start
 *	MOVE to staging, mark the place     the mover
 *	content to the device               zd_out_moved, stored
 *	entries become device pages         zd_out_land
 *
 * How each page ends is told in land.c.
 */
#include <errno.h>
#include <string.h>

#include "base/trace.h"
#include "engine/delayed_put.h"
#include "engine/land.h"
#include "engine/out.h"
#include "engine/tier.h"
#include "zonedev/log.h"

/* ->done of the device: the buffer's pages are on it, or not. */
static void stored(struct zd_device_io *io)
{
	struct zd_mig *mig = io->owner;
	struct zd_tier *tier = zd_server_find_tier(mig->server, mig->dev);

	for (unsigned int k = 0; k < io->nr; k++) {
		struct zd_mig_page *p = &mig->page[mig->io_index[k]];

		p->error = io->pages[k].error;
		p->step = p->error ? ZD_MIG_BACK : ZD_MIG_STORE;
		if (p->error && !tier->write_failed) {
			tier->write_failed = true;
			zd_log(ZD_LOG_WARN, "%s: can't write: %s; its pages stay in memory",
			       mig->dev->name, strerrordesc_np(-p->error));
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

/* Where the content of page @i goes: device memory, if the server can address it. */
static void *content_of(struct zd_mig *mig, unsigned int i)
{
	struct zd_device *dev = mig->dev;
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
	/* zd_out_moved() fetches again what failed here, and deals with failures */
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
			zd_out_refused(mig, p);
			continue;
		}
		if (mig->server->resident)
			mig->server->resident--;
		if (!has_owner(p)) {
			zd_out_dropped(mig, p);
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
	struct zd_device *dev = mig->dev;
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

/* The server's thread; doesn't block.  May free @mig. */
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
			zd_out_lost(mig, p);
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

/* ->alloc_pages; the device must not be full only of pages whose put is delayed. */
static int take_pages(struct zd_server *server, struct zd_device *dev, unsigned int nr,
		      zd_pfn_t *pfns)
{
	int got = dev->ops->alloc_pages(dev, nr, pfns), more;

	if (got < 0 || got == (int)nr || !server->nr_delayed_puts)
		return got;
	zd_flush_delayed_puts(server);
	more = dev->ops->alloc_pages(dev, nr - got, pfns + got);
	return more > 0 ? got + more : got;
}

/* The server's thread; doesn't block.  The mover and the driver are called. */
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
	pgmap = zd_get_dev_pagemap(want->dev->pgmap.pfn);
	if (!pgmap)
		return -ENODEV;
	if (!want->fetched) {
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
	mig->dev = want->dev;
	mig->pgmap = pgmap;
	mig->fetched = want->fetched;
	mig->land = zd_out_land;
	mig->landed = want->landed;
	mig->data = want->data;
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
	if (!want->fetched)
		want->dev->ops->unalloc_pages(want->dev, nr, pfns);
err_put:
	zd_put_dev_pagemap(pgmap);
	return rc;
}
