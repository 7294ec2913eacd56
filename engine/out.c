/* SPDX-License-Identifier: MIT */
/*
 * Out: program memory to the device.
 *
 *	lock entries, take device pages     zd_out_start
 *	MOVE to staging, mark the place     the mover
 *	content to the device, or the next  zd_mig_write
 *	entries become device pages         zd_out_land
 *
 * How each page ends is told in land.c.
 */
#include <errno.h>

#include "base/trace.h"
#include "engine/distrust.h"
#include "engine/land.h"
#include "engine/out.h"
#include "engine/recall.h"
#include "engine/tier.h"
#include "engine/write.h"

/* Where the content of page @i goes: device memory, if the server can address it; else, and
 * if not @direct, the buffer. */
static void *content_of(struct zd_mig *mig, unsigned int i, bool direct)
{
	struct zd_device *dev = mig->dev;
	void *content = NULL;

	if (direct && mig->page[i].pfn && dev->ops->direct_access)
		content = dev->ops->direct_access(dev, mig->page[i].pfn);
	return content ? content : zd_mig_buffer(mig, i);
}

static int fetch_to(struct zd_mm *mm, struct zd_mig *mig, bool direct)
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
		dst[nr++] = content_of(mig, i, direct);
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

/* Read what was moved and has not been read yet.  Where the device's memory fails under a store
 * the pages go by the buffer, and ->submit says of each what is wrong. */
static int fetch(struct zd_mm *mm, struct zd_mig *mig)
{
	int rc = fetch_to(mm, mig, true);

	return rc == -EFAULT ? fetch_to(mm, mig, false) : rc;
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
		if (!zd_mig_has_owner(p)) {
			zd_out_dropped(mig, p);
			continue;
		}
		slot[nr++] = i;
	}
	return nr;
}

/* Content is in p->content: done for direct memory and for zeros, the rest is written, but for what
 * a thread waits for. */
static void submit(struct zd_mig *mig, unsigned int nr, const uint16_t *slot)
{
	unsigned int to_write = 0;

	for (unsigned int j = 0; j < nr; j++) {
		struct zd_mig_page *p = &mig->page[slot[j]];
		bool write = p->content == zd_mig_buffer(mig, slot[j]) && !p->zero;

		p->step = write ? ZD_MIG_WRITE : ZD_MIG_STORE;
		if (write)
			zd_recall_waited(mig, p);
		to_write += p->step == ZD_MIG_WRITE;
	}
	/* What is not to be written lands first: the device of the others may be another
	 * one in the end. */
	if (to_write < nr || !nr)
		zd_out_land(mig);
	if (to_write)
		zd_mig_write(mig);
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
			zd_out_send_back(mig, p, -EAGAIN);
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

static void lock_pages(struct zd_mig *mig, const uint64_t *addrs, const zd_pfn_t *pfns)
{
	for (unsigned int i = 0; i < mig->nr; i++) {
		zd_entry_t *entry = zd_mm_entry(mig->mm, addrs[i]);

		mig->page[i] = (struct zd_mig_page){
			.mm = mig->mm, .addr = addrs[i], .pfn = pfns[i], .error = -EINPROGRESS,
		};
		if (zd_entry_state(*entry) == ZD_ENTRY_PRESENT)
			zd_lru_forget(&mig->server->lru, *entry);
		zd_entry_store(entry, ZD_ENTRY_LOCK);
	}
}

/* The server's thread; doesn't block.  The mover and the driver are called. */
int zd_out_start(struct zd_mm *mm, const uint64_t *addrs, unsigned int nr,
		 const struct zd_out_want *want)
{
	struct zd_server *server = mm->server;
	struct zd_tier *tier = zd_server_find_tier(server, want->dev);
	zd_pfn_t pfns[ZD_MIG_MAX] = { 0 };
	struct zd_pagemap *pgmap;
	unsigned int got = 0;
	struct zd_mig *mig;
	int rc;

	if (!mm->mover || mm->out || mm->dead || !zd_mm_is_current(mm))
		return -EBUSY;
	pgmap = zd_get_dev_pagemap(want->dev->pgmap.pfn);
	if (!pgmap)
		return -ENODEV;
	if (!want->fetched) {
		rc = zd_tier_alloc(server, tier, nr, pfns);
		if (rc < 0)
			goto err_put;
		got = rc;
		/* the others may go to the next tier (write.h) */
		if (!want->pass_on || !zd_tier_has_room_below(server, tier))
			nr = got;
	}
	mig = zd_mig_new(server, mm, ZD_TO_DEVICE);
	if (!mig) {
		rc = -ENOMEM;
		goto err_unalloc;
	}
	mig->dev = want->dev;
	mig->pgmap = pgmap;
	mig->pass_on = want->pass_on;
	mig->fetched = want->fetched;
	mig->land = zd_out_land;
	mig->landed = want->landed;
	mig->data = want->data;
	mig->nr = nr;
	lock_pages(mig, addrs, pfns);
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
	zd_tier_unalloc(want->dev, got, pfns);
err_put:
	zd_put_dev_pagemap(pgmap);
	return rc;
}
