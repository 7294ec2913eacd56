/* SPDX-License-Identifier: MIT */
/*
 * A medium as device memory: pages by address, or by guarded copies.
 *
 * Mechanism.  ->direct_access answers with the page's place in the medium's mapping.  Where
 * that isn't safe, or the page is listed as bad, the answer is NULL, and the server comes by
 * ->submit, which copies through media/transfer.c and tells of each page how it went.  A store
 * by address that fails comes by ->submit, too (engine/out.c); a load that fails is a read
 * error.
 *
 * Invariants:
 *  - A page that is listed as bad when it is allocated isn't given out: it stays used in the
 *    pool for good, and counts in @nr_bad.
 *  - Only a medium that can't be cut under the device is used by address: see pmem_device.h.
 *  - Storage is given back of pages that the pool has taken out of circulation: no thread
 *    reads or writes them.
 *
 * Nothing is flushed or synced: the pages are worth nothing without the process whose memory
 * they hold.  So a bad page isn't healed by a write either, which would have to be durable to
 * be believed by the next opener; there are other pages.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/time.h"
#include "drivers/empty_file.h"
#include "drivers/explain.h"
#include "drivers/pmem/device.h"
#include "drivers/pmem/device_medium.h"
#include "zonedev/log.h"
#include "zonedev/pmem_device.h"

#define KICK_WORDS	64		/* 16 MiB of idle words: storage is to be given back */
#define ALLOC_TRIES	16		/* of one ->alloc_pages, while it finds bad pages */
#define IDLE_NS		1000000000ull	/* storage that is given back wasn't used for so long */
#define PUNCH_WORDS	16		/* at most this many in one reap: a fault may wait */

static struct zd_pmem_device *to_pmem(const struct zd_device *dev)
{
	return dev->private_data;
}

static bool is_bad(struct zd_pmem_device *d, uint64_t index)
{
	return zd_badblocks_check(&d->media.bad, index * ZD_PAGE_SECTORS, ZD_PAGE_SECTORS, NULL,
				  NULL);
}

/* --- free pages --- */

/* Keep those of the @nr pages that aren't bad; the bad ones stay used.  How many are kept. */
static unsigned int drop_bad(struct zd_pmem_device *d, unsigned int nr, zd_pfn_t *pfns)
{
	unsigned int kept = 0;

	if (!zd_badblocks_any(&d->media.bad))
		return nr;
	for (unsigned int i = 0; i < nr; i++)
		if (!is_bad(d, zd_device_page_index(&d->dev, pfns[i])))
			pfns[kept++] = pfns[i];
	__atomic_add_fetch(&d->nr_bad, nr - kept, __ATOMIC_RELAXED);
	return kept;
}

static int pmem_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct zd_pmem_device *d = to_pmem(dev);
	unsigned int got = 0;

	if (nr > INT_MAX)
		nr = INT_MAX;
	/* a medium that has lost a great part must not keep the server busy: the rest of the bad
	 * pages is found by the next calls */
	for (int tries = 0; got < nr && tries < ALLOC_TRIES; tries++) {
		unsigned int n = zd_pool_alloc(&d->pool, nr - got, dev->pgmap.pfn, pfns + got);

		if (!n)
			break;
		got += drop_bad(d, n, pfns + got);
	}
	return got;
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
	if (zd_pool_free(&d->pool, index) && d->media.has_holes)
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

	if (!d->by_address || is_bad(d, index))
		return NULL;
	return d->media.base + index * ZD_PAGE_SIZE;
}

/* Has the file been cut?  Told once. */
static void look_for_cut(struct zd_pmem_device *d)
{
	uint64_t bad;

	if (d->told_cut || !zd_media_check_end(&d->media, 0, d->media.bytes, &bad))
		return;
	d->told_cut = true;
	zd_log(ZD_LOG_ERR, "%s: truncated by somebody else: what it held from byte %llu on is lost",
	       d->dev.name, (unsigned long long)bad);
}

static int read_page(struct zd_pmem_device *d, uint64_t index, void *buf)
{
	int rc = zd_media_get(&d->media, index * ZD_PAGE_SIZE, buf, ZD_PAGE_SIZE);

	if (rc == -EIO)
		look_for_cut(d);
	return rc;
}

static int write_page(struct zd_pmem_device *d, uint64_t index, void *buf)
{
	struct iovec iov = { buf, ZD_PAGE_SIZE };
	struct zd_iter it = { .iov = &iov, .nr = 1 };
	uint64_t at = index * ZD_PAGE_SIZE, bad;
	int rc = zd_media_write(&d->media, at, &it, ZD_PAGE_SIZE, &bad);

	if (!rc)
		rc = zd_media_check_end(&d->media, at, ZD_PAGE_SIZE, &bad);
	if (rc == -EIO)
		look_for_cut(d);
	/* one page of the medium is broken: this page finds no room there, the next one does */
	if (!d->told_cut && (rc == -EIO || !rc) && is_bad(d, index))
		return -ENOSPC;
	return rc;
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
			page->error = write_page(d, index, page->buf);
		else
			page->error = read_page(d, index, page->buf);
	}
	zd_ioq_push(&d->finisher.done, io);
	zd_io_finish(&d->finisher);
}

/* --- storage given back --- */

static void punch(void *arg, uint64_t first, uint64_t nr)
{
	struct zd_pmem_device *d = arg;

	zd_media_punch(&d->media, first * ZD_PAGE_SIZE, nr * ZD_PAGE_SIZE);
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
	uint64_t bad = __atomic_load_n(&d->nr_bad, __ATOMIC_RELAXED);
	uint64_t used = dev->nr_pages - zd_pool_free_pages(&d->pool);
	const struct zd_device_stat all[] = {
		{ "pages_used", (double)(used > bad ? used - bad : 0) },
		{ "pages_bad", (double)bad },
		{ "by_address", d->by_address },
	};
	unsigned int known = sizeof(all) / sizeof(all[0]);

	for (unsigned int i = 0; i < nr && i < known; i++)
		stats[i] = all[i];
	return (int)known;
}

static void release(struct zd_pmem_device *d)
{
	zd_device_medium_close(&d->media);
	zd_pool_exit(&d->pool);
	if (d->empty_fd >= 0)
		close(d->empty_fd);
	if (d->timer >= 0)
		close(d->timer);
	zd_free(d);
}

static void pmem_destroy(struct zd_device *dev)
{
	struct zd_pmem_device *d = to_pmem(dev);

	zd_device_medium_clear(&d->media, dev->name);
	release(d);
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
};

/* The medium is open. */
static int set_up(struct zd_pmem_device *d)
{
	struct zd_media *m = &d->media;
	int rc;

	m->pages.owner = d;
	m->pages.lock = &d->page_lock;
	d->by_address = m->created || !m->can_shrink;
	d->dev.ops = &zd_pmem_device_ops;
	d->dev.name = d->name;
	d->dev.nr_pages = m->bytes / ZD_PAGE_SIZE;
	d->dev.private_data = d;
	/* memory that is backed already is used again first */
	rc = zd_pool_init(&d->pool, d->dev.nr_pages, ZD_POOL_COMPACT, KICK_WORDS, true);
	if (rc)
		return rc;
	d->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return d->timer < 0 ? -errno : zd_device_register(&d->dev);
}

int zd_pmem_device_create(const char *path, uint64_t bytes, unsigned int flags,
			  struct zd_device **dev, char *err, size_t errlen)
{
	bool dax = flags & ZD_PMEM_DEVICE_DAX;
	struct zd_pmem_device *d;
	int rc;

	if (!path || !dev || flags & ~(ZD_PMEM_DEVICE_FORCE | ZD_PMEM_DEVICE_DAX))
		return zd_explain(err, errlen, -EINVAL, "no path, or unknown flags");
	d = zd_alloc(sizeof(*d));
	if (!d)
		return zd_explain(err, errlen, -ENOMEM, "no memory");
	d->empty_fd = d->timer = -1;
	snprintf(d->name, sizeof(d->name), "%s:%s", dax ? "dax" : "pmem", path);
	rc = zd_device_medium_open(path, bytes, flags, &d->media, err, errlen);
	if (rc) {
		zd_free(d);
		return rc;
	}
	rc = set_up(d);
	if (rc) {
		release(d);
		return zd_explain(err, errlen, rc, "%s can't be a device: %s", path,
				  strerrordesc_np(-rc));
	}
	*dev = &d->dev;
	return 0;
}

int zd_pmem_device_inject_poison(struct zd_device *dev, uint64_t page, uint64_t nr)
{
	struct zd_pmem_device *d;
	int fd;

	if (!dev || dev->ops != &zd_pmem_device_ops || page > dev->nr_pages ||
	    nr > dev->nr_pages - page)
		return -EINVAL;
	d = to_pmem(dev);
	zd_mutex_lock(&d->lock);
	fd = d->empty_fd < 0 ? zd_make_empty_file() : d->empty_fd;
	if (fd >= 0)
		d->empty_fd = d->media.pages.sigbus_fd = fd;
	zd_mutex_unlock(&d->lock);
	return fd < 0 ? fd : zd_media_inject_poison(&d->media, page, nr);
}
