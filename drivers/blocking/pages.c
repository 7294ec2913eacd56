/* SPDX-License-Identifier: MIT */
/* The adapter's free pages; see blocking.h. */
#include <limits.h>

#include "drivers/blocking/blocking.h"
#include "pages/device_async.h"

int zd_blocking_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct blocking *b = to_blocking(dev);

	if (nr > INT_MAX)
		nr = INT_MAX;
	return (int)zd_pool_alloc_good(&b->pool, nr, dev->pgmap.pfn, pfns, b->ops.is_bad,
				       b->attr.priv, &b->bad_pages);
}

/* A late write of the page goes on: the page is free when that has returned. */
static bool note_late(struct blocking *b, uint64_t index)
{
	bool late = false;

	zd_mutex_lock(&b->lock);
	for (unsigned int i = 0; i < b->attr.threads && !late; i++) {
		struct blocking_worker *w = &b->worker[i];

		late = w->work == WORK_WRITE && !w->io && index - w->first < w->nr;
		if (late)
			w->freed |= UINT64_C(1) << (index - w->first);
	}
	zd_mutex_unlock(&b->lock);
	return late;
}

void zd_blocking_want_trim(struct blocking *b)
{
	if (!b->ops.discard)
		return;
	/* Release: pairs with the acquire in blocking_reaped(). */
	__atomic_store_n(&b->trim_wanted, true, __ATOMIC_RELEASE);
	zd_device_async_poke(&b->dev);
}

static void free_index(struct blocking *b, uint64_t index)
{
	/* Relaxed: a late write counts before its batch is completed, and so before its pages
	 * are given back. */
	if (__atomic_load_n(&b->late_writes, __ATOMIC_RELAXED) && note_late(b, index))
		return;
	if (zd_pool_free(&b->pool, index))
		zd_blocking_want_trim(b);
}

void zd_blocking_free_late(struct blocking *b, uint64_t first, uint64_t freed)
{
	for (; freed; freed &= freed - 1)
		free_index(b, first + __builtin_ctzll(freed));
}

void zd_blocking_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	for (unsigned int i = 0; i < nr; i++)
		free_index(to_blocking(dev), zd_device_page_index(dev, pfns[i]));
}

void zd_blocking_page_free(struct zd_device *dev, struct zd_page *page)
{
	free_index(to_blocking(dev), zd_device_page_index(dev, zd_page_to_pfn(page)));
}
