/* SPDX-License-Identifier: MIT */
/* Told in distrust.h. */
#include "engine/distrust.h"

#include <errno.h>
#include <string.h>

#include "engine/delayed_put.h"
#include "engine/silence.h"
#include "engine/tier.h"
#include "pages/pagemap.h"
#include "zonedev/log.h"

static void broken(struct zd_tier *tier, const char *what)
{
	if (tier->broken)
		return;
	tier->broken = true;
	tier->full = tier->write_failed = true;	/* which need no line of their own any more */
	zd_log(ZD_LOG_ERR, "%s: a mistake in its driver: %s; no page goes to it any more",
	       tier->dev->name, what);
}

/* pgmap_id of a page of @dev that is taken. */
static uint32_t taken(const struct zd_device *dev)
{
	return dev->pgmap.priv->id | ZD_PAGE_TAKEN;
}

/* What is wrong with a page that the driver gave?  NULL: nothing. */
static const char *check_page(const struct zd_device *dev, zd_pfn_t pfn)
{
	const struct zd_page *page;

	if (zd_device_page_index(dev, pfn) >= dev->nr_pages)
		return "alloc_pages gives pages that the device doesn't have";
	page = zd_pfn_to_page(pfn);
	if (zd_page_count(page) || page->pgmap_id & ZD_PAGE_LIVE || page->pgmap_id == taken(dev))
		return "alloc_pages gives pages that are in use";
	return NULL;
}

static int alloc_pages(struct zd_tier *tier, unsigned int nr, zd_pfn_t *pfns)
{
	struct zd_device *dev = tier->dev;
	int got = dev->ops->alloc_pages(dev, nr, pfns);
	const char *what;

	if (got > (int)nr) {
		broken(tier, "alloc_pages gives more pages than were asked for");
		return -EIO;
	}
	for (int i = 0; i < got; i++) {
		what = check_page(dev, pfns[i]);
		if (what) {
			zd_tier_unalloc(dev, i, pfns);
			broken(tier, what);
			return -EIO;
		}
		zd_pfn_to_page(pfns[i])->pgmap_id = taken(dev);
	}
	return got;
}

/* Mostly they are already. */
static void make_ascending(zd_pfn_t *pfns, int nr)
{
	for (int i = 1, k; i < nr; i++) {
		zd_pfn_t pfn = pfns[i];

		for (k = i; k && pfns[k - 1] > pfn; k--)
			pfns[k] = pfns[k - 1];
		pfns[k] = pfn;
	}
}

int zd_tier_alloc(struct zd_server *server, struct zd_tier *tier, unsigned int nr, zd_pfn_t *pfns)
{
	int got, more;

	if (tier->broken)
		return -EIO;
	got = alloc_pages(tier, nr, pfns);
	if (got >= 0 && got < (int)nr && server->nr_delayed_puts) {
		zd_flush_delayed_puts(server);
		more = alloc_pages(tier, nr - got, pfns + got);
		got += more > 0 ? more : 0;
	}
	make_ascending(pfns, got);
	zd_tier_took(tier, nr, got);
	if (got < 0 && !tier->full) {
		zd_log(ZD_LOG_WARN, "%s: gives no room: %s", tier->dev->name,
		       strerrordesc_np(-got));
		tier->full = true;
	}
	return got > 0 ? got : got ? -EIO : -ENOSPC;
}

void zd_tier_unalloc(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	for (unsigned int i = 0; i < nr; i++)
		if (zd_pfn_to_page(pfns[i])->pgmap_id == taken(dev))
			zd_pfn_to_page(pfns[i])->pgmap_id = dev->pgmap.priv->id;
	if (nr)
		dev->ops->unalloc_pages(dev, nr, pfns);
}

void zd_mig_submit(struct zd_mig *mig, struct zd_device *dev, enum zd_io_dir dir, unsigned int nr,
		   void (*done)(struct zd_device_io *io))
{
	for (unsigned int k = 0; k < nr; k++)
		mig->io_page[k].error = -EINPROGRESS;
	mig->io = (struct zd_device_io){
		.dir = dir, .nr = nr, .pages = mig->io_page, .done = done, .owner = mig,
	};
	mig->asked = dev;
	zd_silence_begin(mig);
	zd_reach_sent(zd_server_reach(mig->server, dev), &mig->io);
	dev->ops->submit(dev, &mig->io);
}

/* ->done of a batch that is at rest. */
static void done_again(struct zd_device_io *io)
{
	struct zd_mig *mig = io->owner;
	struct zd_tier *tier = zd_server_find_tier(mig->server, mig->asked);

	if (tier)
		broken(tier, "it completes a batch twice");
}

void zd_mig_answered(struct zd_mig *mig)
{
	struct zd_tier *tier = zd_server_find_tier(mig->server, mig->asked);

	mig->io.done = done_again;
	zd_silence_end(mig);
	zd_reach_answered(&tier->reach, mig->asked, &mig->io);
	for (unsigned int k = 0; k < mig->io.nr; k++) {
		if (mig->io_page[k].error != -EINPROGRESS)
			continue;
		mig->unanswered = true;
		if (mig->io.dir == ZD_TO_DEVICE)	/* the driver may still be writing it */
			mig->page[mig->io_index[k]].pfn = 0;
		broken(tier, "it completes a batch and leaves pages without an answer");
	}
}
