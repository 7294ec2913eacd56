/* SPDX-License-Identifier: MIT */
/*
 * drivers/lz4/device.c - compressed RAM as a device.
 *
 * The few pages that a fault brings home are decompressed at once, inside ->submit: that takes about
 * a microsecond a page, a tenth of what it would take to wake another thread.  For the same reason
 * the smallest evictions are compressed at once.  All other batches are the worker's.
 *
 * Who touches what.  A page of a batch is that batch's alone, and ->page_free comes when no batch
 * has the page; everything else is under the store's lock (store.c).  Nothing here mallocs, and
 * the worker sees no memory but zonedev's own and the batches' buffers.
 */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "drivers/lz4/lz4.h"
#include "zonedev/lz4.h"

#define PAGES_PER_PAGE	16	/* of the device, for each that the pool may take */
#define STORE_INLINE	4	/* pages that are compressed in ->submit, at ZD_LZ4_LEVEL_FAST */
#define LOAD_INLINE	32	/* pages that are decompressed in ->submit */
#define TIDY_INLINE	4	/* steps after a batch, where there is no worker */
#define MIN_BYTES	(UINT64_C(2) << 20)
#define MAX_BYTES	(UINT64_C(1) << 40)	/* of a page of the device's index, 32 bits are kept */

static struct zd_lz4 *to_lz4(const struct zd_device *dev)
{
	return dev->private_data;
}

static int lz4_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	return zd_lz4_store_alloc(&to_lz4(dev)->store, nr < INT_MAX ? nr : INT_MAX, pfns);
}

static void lz4_page_free(struct zd_device *dev, struct zd_page *page)
{
	struct zd_lz4 *lz4 = to_lz4(dev);

	if (zd_lz4_store_free(&lz4->store, page))
		zd_lz4_worker_tidy(&lz4->worker);
}

static void lz4_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	while (nr--)
		lz4_page_free(dev, zd_pfn_to_page(*pfns++));
}

static void refuse(struct zd_device_io *io)
{
	for (unsigned int i = 0; i < io->nr; i++)
		io->pages[i].error = -EINVAL;
}

static unsigned int inline_pages(const struct zd_lz4 *lz4, enum zd_io_dir dir)
{
	if (!zd_lz4_worker_is_here(&lz4->worker))
		return UINT_MAX;
	if (dir == ZD_FROM_DEVICE)
		return LOAD_INLINE;
	return lz4->codec.level == ZD_LZ4_LEVEL_FAST ? STORE_INLINE : 0;
}

static void lz4_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct zd_lz4 *lz4 = to_lz4(dev);

	if (lz4->store.generation != zd_fork_generation) {
		zd_lz4_store_adopt(&lz4->store);
		zd_lz4_worker_restart(&lz4->worker);
	}
	if (!zd_io_dir_is_known(io->dir)) {
		refuse(io);
	} else if (io->nr > inline_pages(lz4, io->dir)) {
		zd_lz4_worker_give(&lz4->worker, io);
		return;
	} else {
		zd_lz4_run_batch(&lz4->store, &lz4->codec, io);
	}
	/* What others freed meanwhile has been freed here, and they don't know what came of it. */
	if (zd_lz4_worker_is_here(&lz4->worker) &&
	    __atomic_load_n(&lz4->store.untidy, __ATOMIC_RELAXED))
		zd_lz4_worker_tidy(&lz4->worker);
	if (!zd_lz4_worker_is_here(&lz4->worker))
		for (int i = 0; i < TIDY_INLINE && zd_lz4_store_tidy(&lz4->store); i++)
			;
	zd_io_complete_any(dev, io);
}

static int lz4_resize(struct zd_device *dev, uint64_t nr_pages)
{
	zd_pool_resize(&to_lz4(dev)->store.indexes, nr_pages);
	return 0;
}

static uint64_t load(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static uint64_t lz4_ram_bytes(struct zd_device *dev)
{
	return load(&to_lz4(dev)->store.ram_bytes);
}

static int lz4_stats(struct zd_device *dev, struct zd_device_stat *stats, unsigned int nr)
{
	const struct zd_lz4_store *store = &to_lz4(dev)->store;
	const struct zd_lz4_counts *counts = &store->counts;
	double packed = load(&counts->packed), same = load(&counts->same);
	double bytes = load(&counts->bytes), pool = load(&store->pool_bytes);
	double ram = load(&store->ram_bytes);
	const struct zd_device_stat all[] = {
		{ "pages_compressed", packed },
		{ "pages_same", same },
		{ "incompressible", load(&counts->refused) },
		{ "no_room", load(&counts->no_room) },
		{ "bytes_stored", bytes },
		{ "pool_bytes", pool },
		{ "ratio", ram ? (packed + same) * ZD_PAGE_SIZE / ram : 0 },
		{ "waste_percent", pool > bytes ? 100 * (pool - bytes) / pool : 0 },
		{ "moves", load(&store->moves) },
	};
	const unsigned int nr_all = sizeof(all) / sizeof(all[0]);

	for (unsigned int i = 0; i < nr && i < nr_all; i++)
		stats[i] = all[i];
	return nr_all;
}

static void release(struct zd_lz4 *lz4)
{
	zd_lz4_worker_stop(&lz4->worker);
	zd_lz4_codec_exit(&lz4->codec);
	zd_lz4_store_exit(&lz4->store);
	zd_free(lz4);
}

static void lz4_destroy(struct zd_device *dev)
{
	release(to_lz4(dev));
}

static const struct zd_device_ops lz4_ops = {
	.size = sizeof(lz4_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.flags = ZD_DEVICE_NO_MALLOC | ZD_DEVICE_ASYNC,
	.alloc_pages = lz4_alloc_pages,
	.unalloc_pages = lz4_unalloc_pages,
	.page_free = lz4_page_free,
	.submit = lz4_submit,
	.destroy = lz4_destroy,
	.ram_bytes = lz4_ram_bytes,
	.stats = lz4_stats,
	.resize = lz4_resize,
};

int zd_lz4_create(uint64_t nr_pages, uint64_t max_pages, int level, struct zd_device **dev)
{
	struct zd_lz4 *lz4 = zd_alloc(sizeof(*lz4));
	int ret;

	if (!lz4)
		return -ENOMEM;
	lz4->dev.ops = &lz4_ops;
	lz4->dev.name = "lz4";
	lz4->dev.nr_pages = nr_pages;
	lz4->dev.private_data = lz4;
	ret = zd_lz4_store_init(&lz4->store, &lz4->dev, nr_pages, max_pages);
	if (ret)
		goto out;
	ret = zd_lz4_codec_init(&lz4->codec, level);
	if (ret)
		goto out;
	ret = zd_lz4_worker_start(&lz4->worker, &lz4->store, level);
	if (ret)
		goto out;
	ret = zd_device_register(&lz4->dev);
	if (ret)
		goto out;
	*dev = &lz4->dev;
	return 0;

out:
	release(lz4);
	return ret;
}

static uint64_t half_of_ram(void)
{
	uint64_t bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) / 2 * sysconf(_SC_PAGESIZE);

	return bytes < MAX_BYTES ? bytes : MAX_BYTES;
}

int zd_lz4_device_create(uint64_t max, int level, struct zd_device **dev)
{
	uint64_t pages;

	if (!max)
		max = half_of_ram();
	if (!level)
		level = ZD_LZ4_LEVEL_FAST;
	if (max < MIN_BYTES || max > MAX_BYTES || level < ZD_LZ4_LEVEL_FAST ||
	    level > ZD_LZ4_LEVEL_MAX)
		return -EINVAL;
	pages = max >> ZD_PAGE_SHIFT;
	return zd_lz4_create(pages * PAGES_PER_PAGE, pages, level, dev);
}
