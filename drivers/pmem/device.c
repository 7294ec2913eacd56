/* SPDX-License-Identifier: MIT */
/*
 * A medium that is memory as device memory: pages by address, or by guarded copies.
 *
 * Mechanism.  ->direct_access answers with the page's place in the medium's mapping.  Where
 * that isn't safe, or the page is listed as bad, the answer is NULL, and the server comes by
 * ->submit, which copies (device_copy.c) and tells of each page how it went.  A store by address
 * that fails comes by ->submit, too (engine/out.c); a load that fails is a read error.
 *
 * Invariants:
 *  - A page that is listed as bad when it is allocated isn't given out: it stays used in the
 *    pool for good, and counts in @nr_bad.
 *  - Only a medium that can't be cut under the device is used by address: see pmem_device.h.
 *  - Storage is given back of pages that the pool has taken out of circulation: no thread
 *    reads or writes them.
 */
#include <errno.h>
#include <limits.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/time.h"
#include "drivers/pmem/device.h"

#define KICK_WORDS	64		/* 16 MiB of idle words: storage is to be given back */
#define IDLE_NS		1000000000ull	/* storage that is given back wasn't used for so long */
#define PUNCH_WORDS	16		/* at most this many in one reap: a fault may wait */

static struct zd_pmem_device *to_pmem(const struct zd_device *dev)
{
	return dev->private_data;
}

/* --- free pages --- */

static int pmem_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct zd_pmem_device *d = to_pmem(dev);
	bool any = zd_badblocks_any(&d->medium->media.bad);

	if (nr > INT_MAX)
		nr = INT_MAX;
	return (int)zd_pool_alloc_good(&d->pool, nr, dev->pgmap.pfn, pfns,
				       any ? zd_device_medium_is_bad : NULL, d->medium, &d->nr_bad);
}

/* Called with d->lock held.  The timer isn't readable before it is due. */
static void set_timer(struct zd_pmem_device *d)
{
	struct itimerspec when = { .it_value = { d->due / 1000000000, d->due % 1000000000 } };

	timerfd_settime(d->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Have ->reap called in @delay_ns.  Any thread. */
static void schedule_punch(struct zd_pmem_device *d, uint64_t delay_ns)
{
	zd_mutex_lock(&d->lock);
	if (!d->due) {
		d->due = zd_now_ns() + delay_ns;
		set_timer(d);
	}
	zd_mutex_unlock(&d->lock);
}

static void free_index(struct zd_pmem_device *d, uint64_t index)
{
	if (zd_pool_free(&d->pool, index) && d->medium->media.has_holes)
		schedule_punch(d, IDLE_NS);
}

static void pmem_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	for (unsigned int i = 0; i < nr; i++)
		free_index(to_pmem(dev), zd_device_page_index(dev, pfns[i]));
}

static void pmem_page_free(struct zd_device *dev, struct zd_page *page)
{
	free_index(to_pmem(dev), zd_device_page_index(dev, zd_page_to_pfn(page)));
}

/* --- copies --- */

static void *pmem_direct_access(struct zd_device *dev, zd_pfn_t pfn)
{
	struct zd_pmem_device *d = to_pmem(dev);
	uint64_t index = zd_device_page_index(dev, pfn);

	if (!d->by_address || zd_device_medium_is_bad(d->medium, index))
		return NULL;
	return d->medium->media.base + index * ZD_PAGE_SIZE;
}

static void pmem_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct zd_pmem_device *d = to_pmem(dev);

	for (unsigned int i = 0; i < io->nr; i++) {
		struct zd_io_page *page = &io->pages[i];
		uint64_t index = zd_device_page_index(dev, page->pfn);

		if (!zd_io_dir_is_known(io->dir))
			page->error = -EINVAL;
		else if (io->dir == ZD_TO_DEVICE)
			page->error = zd_device_medium_write(d->medium, index, page->buf);
		else
			page->error = zd_device_medium_read(d->medium, index, page->buf);
	}
	zd_ioq_push(&d->finisher.done, io);
	zd_io_finish(&d->finisher);
}

/* --- storage given back --- */

static void punch(void *arg, uint64_t first, uint64_t nr)
{
	struct zd_pmem_device *d = arg;

	zd_media_punch(&d->medium->media, first * ZD_PAGE_SIZE, nr * ZD_PAGE_SIZE);
}

/* Is the punch due?  It is not any more, then: the caller does it. */
static bool claim_punch(struct zd_pmem_device *d)
{
	bool now;

	zd_mutex_lock(&d->lock);
	now = d->due && d->due <= zd_now_ns();
	if (now)
		d->due = 0;
	set_timer(d);		/* in any case: it falls silent by that */
	zd_mutex_unlock(&d->lock);
	return now;
}

static int pmem_reap(struct zd_device *dev, bool wait)
{
	struct zd_pmem_device *d = to_pmem(dev);

	(void)wait;		/* nothing is ever in flight */
	if (claim_punch(d)) {
		bool more = zd_pool_punch(&d->pool, PUNCH_WORDS, punch, d);

		if (zd_pool_idle_words(&d->pool))
			schedule_punch(d, more ? 0 : IDLE_NS);
	}
	return 0;
}

static int pmem_event_fd(struct zd_device *dev)
{
	return to_pmem(dev)->timer;
}

/* --- the rest --- */

static int pmem_resize(struct zd_device *dev, uint64_t nr_pages)
{
	zd_pool_resize(&to_pmem(dev)->pool, nr_pages);
	return 0;
}

static int pmem_p2p_distance(struct zd_device *dev, const void *addr, size_t len)
{
	(void)dev;
	(void)addr;
	(void)len;
	return 0;
}

static int pmem_stats(struct zd_device *dev, struct zd_device_stat *stats, unsigned int nr)
{
	struct zd_pmem_device *d = to_pmem(dev);
	const struct zd_device_stat all[] = {
		{ "bad_pages", (double)__atomic_load_n(&d->nr_bad, __ATOMIC_RELAXED) },
		{ "by_address", d->by_address },
	};
	unsigned int known = sizeof(all) / sizeof(all[0]);

	for (unsigned int i = 0; i < nr && i < known; i++)
		stats[i] = all[i];
	return (int)known;
}

/* All but the medium. */
static void release(struct zd_pmem_device *d)
{
	zd_pool_exit(&d->pool);
	if (d->timer >= 0)
		close(d->timer);
	zd_free(d);
}

static void pmem_destroy(struct zd_device *dev)
{
	struct zd_pmem_device *d = to_pmem(dev);
	struct zd_device_medium *medium = d->medium;

	release(d);
	zd_device_medium_clear(medium);
	zd_device_medium_close(medium);
}

const struct zd_device_ops zd_pmem_device_ops = {
	.size = sizeof(zd_pmem_device_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.flags = ZD_DEVICE_NO_MALLOC,
	.alloc_pages = pmem_alloc_pages,
	.unalloc_pages = pmem_unalloc_pages,
	.page_free = pmem_page_free,
	.submit = pmem_submit,
	.reap = pmem_reap,
	.event_fd = pmem_event_fd,
	.direct_access = pmem_direct_access,
	.destroy = pmem_destroy,
	.p2p_distance = pmem_p2p_distance,
	.stats = pmem_stats,
	.resize = pmem_resize,
};

int zd_pmem_device_in_memory(struct zd_device_medium *medium, struct zd_device **dev)
{
	const struct zd_media *m = &medium->media;
	struct zd_pmem_device *d = zd_alloc(sizeof(*d));
	int rc;

	if (!d)
		return -ENOMEM;
	d->medium = medium;
	d->by_address = m->created || !m->can_shrink;
	d->dev.ops = &zd_pmem_device_ops;
	d->dev.name = medium->name;
	d->dev.nr_pages = m->bytes / ZD_PAGE_SIZE;
	d->dev.private_data = d;
	d->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	rc = d->timer < 0 ? -errno : 0;
	/* memory that is backed already is used again first */
	if (!rc)
		rc = zd_pool_init(&d->pool, d->dev.nr_pages, ZD_POOL_COMPACT, KICK_WORDS, true);
	if (!rc)
		rc = zd_device_register(&d->dev);
	if (rc)
		release(d);
	else
		*dev = &d->dev;
	return rc;
}
