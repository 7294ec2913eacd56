/* SPDX-License-Identifier: MIT */
/*
 * Devices that shrink and grow.
 *
 * A device keeps its pfns, and its driver gives out the lower ones only.  To shrink, in this order:
 *
 *	->resize	the driver gives out no page above the new size any more
 *	the server	lands what is on its way there, and brings the pages above home
 *	wait		until none of them is live
 *
 * and if one of the last two fails, ->resize back.  The pagemap stays live all the time; its
 * claim keeps removals, and other calls of these, away.
 *
 * Nothing tells of the end of a page that other code holds: the last step looks again and again.
 * It has the server look each time, too, since pages move while it walks over them (mremap, fork).
 */
#include <errno.h>
#include <limits.h>
#include <time.h>

#include <zonedev/device.h>
#include <zonedev/log.h>

#include "base/sized.h"
#include "base/time.h"
#include "pages/device_host.h"
#include "pages/holders.h"
#include "pages/pagemap.h"

#define LOOK_MIN_NS	1000000ull
#define LOOK_MAX_NS	100000000ull
#define WARN_AFTER_NS	10000000000ull

static bool add_live(zd_pfn_t pfn, void *ctx)
{
	struct zd_pagemap_holders *out = ctx;

	if (out->nr_pfns < ZD_PAGEMAP_HOLDER_PFNS)
		out->pfns[out->nr_pfns++] = pfn;
	out->nr_pages++;
	return true;
}

static bool is_empty(struct zd_device *dev, zd_pfn_t first, struct zd_pagemap_holders *out)
{
	*out = (struct zd_pagemap_holders){ 0 };
	zd_pagemap_for_each_live_from(&dev->pgmap, first, add_live, out);
	return !out->nr_pages;
}

static void look_later(uint64_t *pause_ns)
{
	const struct timespec ts = { .tv_nsec = *pause_ns };

	nanosleep(&ts, NULL);
	if (*pause_ns < LOOK_MAX_NS)
		*pause_ns *= 2;
}

/* Until no page from @first on is live.  @until_ns: 0: for ever, with a warning.  Blocks. */
static int make_empty(struct zd_device *dev, zd_pfn_t first, uint64_t until_ns,
		      struct zd_pagemap_holders *out)
{
	uint64_t warn_ns = zd_now_ns() + WARN_AFTER_NS, pause_ns = LOOK_MIN_NS;

	for (;;) {
		/* acquire: pairs with the release in zd_hmm_attach() */
		const struct zd_device_host *host = __atomic_load_n(&dev->host, __ATOMIC_ACQUIRE);
		bool flying = false;
		int rc = host ? host->clear(dev, first, until_ns, &flying) : 0;

		if (rc)
			return rc;
		if (is_empty(dev, first, out) && !flying)
			return 0;
		if (until_ns && zd_now_ns() >= until_ns)
			return -ETIMEDOUT;
		if (!until_ns && zd_now_ns() >= warn_ns) {
			warn_ns = UINT64_MAX;
			zd_log(ZD_LOG_WARN, "%s can't shrink yet: %llu pages are still held",
			       dev->name, (unsigned long long)out->nr_pages);
		}
		look_later(&pause_ns);
	}
}

static int resize_claimed(struct zd_device *dev, uint64_t nr_pages, uint64_t until_ns,
			  struct zd_pagemap_holders *out)
{
	uint64_t old = zd_device_usable_pages(dev);
	int rc = dev->ops->resize(dev, nr_pages);

	if (rc)
		return rc;
	if (nr_pages < old)
		rc = make_empty(dev, dev->pgmap.pfn + nr_pages, until_ns, out);
	if (rc)
		dev->ops->resize(dev, old);
	else
		__atomic_store_n(&dev->nr_usable, nr_pages, __ATOMIC_RELAXED);
	return rc;
}

static int resize(struct zd_device *dev, uint64_t nr_pages, uint64_t until_ns,
		  struct zd_pagemap_holders *out)
{
	int rc = zd_pagemap_claim(&dev->pgmap);

	if (rc)
		return rc;
	if (!dev->ops->resize)
		rc = -EOPNOTSUPP;
	else if (!nr_pages || nr_pages > dev->nr_pages)
		rc = -EINVAL;
	else
		rc = resize_claimed(dev, nr_pages, until_ns, out);
	zd_pagemap_unclaim(&dev->pgmap);
	return rc;
}

int zd_device_resize(struct zd_device *dev, uint64_t nr_pages)
{
	struct zd_pagemap_holders holders;

	return resize(dev, nr_pages, 0, &holders);
}

int zd_device_resize_timeout_sized(struct zd_device *dev, uint64_t nr_pages, unsigned int ms,
				   struct zd_pagemap_holders *out, size_t size)
{
	struct zd_pagemap_holders holders = { 0 };
	int rc = resize(dev, nr_pages, zd_now_ns() + ms * 1000000ull, &holders);

	if (out)
		zd_fill(out, size, &holders, sizeof(holders));
	return rc;
}

uint64_t zd_device_usable_pages(const struct zd_device *dev)
{
	return __atomic_load_n(&dev->nr_usable, __ATOMIC_RELAXED);
}
