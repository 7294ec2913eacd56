/* SPDX-License-Identifier: MIT */
/* The contents of a batch go to a device, or to the next; the mechanism is told in write.h. */
#include <errno.h>
#include <string.h>

#include "engine/distrust.h"
#include "engine/tier.h"
#include "engine/write.h"
#include "pages/pagemap.h"
#include "zonedev/log.h"

void zd_mig_give_back(struct zd_mig *mig, struct zd_mig_page *p)
{
	if (p->pfn)
		zd_tier_unalloc(mig->dev, 1, &p->pfn);
	p->pfn = 0;
}

bool zd_mig_has_owner(const struct zd_mig_page *p)
{
	const struct zd_mig_sharer *s;

	if (p->mm)
		return true;
	for (s = p->sharers; s; s = s->next)
		if (s->mm)
			return true;
	return false;
}

static unsigned int nr_to_write(const struct zd_mig *mig)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < mig->nr; i++)
		nr += mig->page[i].step == ZD_MIG_WRITE;
	return nr;
}

/* Another device may take what this one has refused for @error; not so what will be asked of
 * it again: the next eviction finds another by itself. */
static bool may_pass_on(const struct zd_mig *mig, int error)
{
	return mig->pass_on && error != ZD_MIG_AWAY;
}

/* A write to @tier has failed.  That a page doesn't fit is told only where no other device
 * takes it, and is no reason to spare the tier. */
static void write_failed(const struct zd_mig *mig, struct zd_tier *tier, int error)
{
	bool goes_on = mig->pass_on && zd_server_next_tier(mig->server, tier);

	if (error != -ENOSPC)
		zd_tier_pause(tier);
	if (tier->write_failed || (error == -ENOSPC && goes_on))
		return;
	tier->write_failed = true;
	zd_log(ZD_LOG_WARN, "%s: can't write: %s; its pages %s", tier->dev->name,
	       strerrordesc_np(-error), goes_on ? "go to the next device" : "stay in memory");
}

/* ->done of the device: the buffer's pages are on it, or not. */
static void written(struct zd_device_io *io)
{
	struct zd_mig *mig = io->owner;
	struct zd_tier *tier = zd_server_find_tier(mig->server, mig->dev);
	bool leaves = tier->removing || zd_percpu_ref_is_dying(&mig->pgmap->priv->ref);
	unsigned int left;
	int failed = 0;

	zd_mig_answered(mig);
	for (unsigned int k = 0; k < io->nr; k++) {
		struct zd_mig_page *p = &mig->page[mig->io_index[k]];
		int error = io->pages[k].error;

		/* the device is being removed: another may have the page */
		if (!error && leaves && mig->pass_on)
			error = -ENODEV;
		else if (error == -EAGAIN)
			error = ZD_MIG_AWAY;
		else if (error && (!failed || failed == -ENOSPC))
			failed = error;
		if (error && error != ZD_MIG_AWAY && error != -ENOSPC && error != -ENODEV)
			tier->nr_errors++;
		p->error = error;
		p->step = ZD_MIG_STORE;
		if (!error)
			continue;
		zd_mig_give_back(mig, p);
		p->step = may_pass_on(mig, error) ? ZD_MIG_WRITE : ZD_MIG_BACK;
	}
	if (failed)
		write_failed(mig, tier, failed);
	else
		tier->pause_ns = 0;
	left = nr_to_write(mig);
	mig->land(mig);
	if (left)	/* so the batch isn't freed */
		zd_mig_write(mig);
}

/* The pages that can be submitted, into mig->io_page; how many.  Those that have lost their
 * owners have ended. */
static unsigned int gather(struct zd_mig *mig)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];

		if (p->step != ZD_MIG_WRITE)
			continue;
		if (!zd_mig_has_owner(p)) {
			zd_mig_give_back(mig, p);
			p->error = p->recalled ? -ECANCELED : 0;
			p->step = ZD_MIG_BACK;
		} else if (p->pfn) {
			mig->io_page[nr] = (struct zd_io_page){ p->pfn, p->content, 0 };
			mig->io_index[nr++] = i;
		}
	}
	return nr;
}

/* Take pages of @tier for what is to be written.  False: the tier has none. */
static bool turn_to(struct zd_mig *mig, struct zd_tier *tier)
{
	struct zd_pagemap *pgmap = zd_get_dev_pagemap(tier->dev->pgmap.pfn);
	unsigned int nr = nr_to_write(mig), k = 0;
	zd_pfn_t pfns[ZD_MIG_MAX];
	int got;

	if (!pgmap)
		return false;
	got = zd_tier_alloc(mig->server, tier, nr, pfns);
	if (got < 0) {
		zd_put_dev_pagemap(pgmap);
		return false;
	}
	zd_put_dev_pagemap(mig->pgmap);
	mig->pgmap = pgmap;
	mig->dev = tier->dev;
	for (unsigned int i = 0; i < mig->nr && k < (unsigned int)got; i++)
		if (mig->page[i].step == ZD_MIG_WRITE)
			mig->page[i].pfn = pfns[k++];
	return true;
}

/* mig->dev has been asked for all that it has pages for: the rest goes to the next tier that
 * has.  False: there is no rest, or no such tier. */
static bool next_tier(struct zd_mig *mig)
{
	struct zd_tier *tier = zd_server_find_tier(mig->server, mig->dev);

	if (!nr_to_write(mig))
		return false;
	while (mig->pass_on && (tier = zd_server_next_tier(mig->server, tier)))
		if (turn_to(mig, tier))
			return true;
	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];

		if (p->step != ZD_MIG_WRITE)
			continue;
		p->error = p->error ? p->error : -ENOSPC;
		p->step = ZD_MIG_BACK;
	}
	return false;
}

void zd_mig_write(struct zd_mig *mig)
{
	unsigned int nr;

	do
		nr = gather(mig);
	while (!nr && next_tier(mig));
	if (!nr) {
		mig->land(mig);
		return;
	}
	zd_mig_submit(mig, mig->dev, ZD_TO_DEVICE, nr, written);
}
