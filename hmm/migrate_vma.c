/* SPDX-License-Identifier: MIT */
/*
 * zd_migrate_vma_setup/pages/finalize: the three steps for drivers that copy by
 * themselves.
 *
 * setup takes the pages out as any migration does, but instead of giving them to
 * a device the batch stops with its contents in its buffer.  pages sets which of them
 * become device pages, and lands those; finalize sends the rest back and waits until the
 * batch is gone.  This file is the caller's thread's part, migrate_vma_steps.c the server's.
 *
 * Device pages.  The caller's thread takes over the pages that dst[] names (take()),
 * before it calls the server: from then on cmd->took[] says which have to be given back.
 * The server's thread keeps the reference of a page that goes (cmd->went[]), and touches no
 * other.  finalize gives back the others, also in the caller's thread.  A live page's word
 * is the address that it is for, so a page that is named twice, or is in use elsewhere, is
 * found out by one compare and exchange.
 *
 * Steps that are never finished, because the process exits in the middle, or the thread is
 * gone: zd_mm_close() refuses (hmm->nr_steps), and exit sends the pages back
 * (zd_migrate_vma_abandon()), so that neither waits for ever.
 *
 * All calls block.
 */
#include <errno.h>

#include "base/alloc.h"
#include "base/sized.h"
#include "hmm/malloc_rule.h"
#include "hmm/migrate.h"
#include "hmm/migrate_vma.h"
#include "zonedev/log.h"

/* Have the server's thread do @step.  As zd_hmm_call(). */
static int run(struct zd_migrate_vma *args, struct zd_migrate_vma_cmd *c,
	       enum zd_cmd_result (*step)(struct zd_hmm *, struct zd_cmd *))
{
	c->cmd.step = step;
	c->cmd.rc = 0;
	return zd_hmm_call(zd_hmm_of(args->mm), &c->cmd);
}

static uint64_t start_of(const struct zd_migrate_vma *args)
{
	return (uintptr_t)args->start;
}

static uint64_t end_of(const struct zd_migrate_vma *args)
{
	return (uintptr_t)args->end;
}

static uint64_t npages(const struct zd_migrate_vma *args)
{
	return (end_of(args) - start_of(args)) >> ZD_PAGE_SHIFT;
}

static bool good_args(const struct zd_migrate_vma *args)
{
	return args->mm && args->dev && args->src && args->dst && args->data &&
	       start_of(args) < end_of(args) &&
	       !((start_of(args) | end_of(args)) & (ZD_PAGE_SIZE - 1)) &&
	       end_of(args) <= UINT64_C(1) << ZD_VA_BITS && npages(args) <= ZD_MIGRATE_VMA_MAX;
}

/* Up to @result, which is the last member. */
#define MIN_SIZE	offsetof(struct zd_migrate_vma, result)

static void put_result(struct zd_migrate_vma *args, size_t size,
		       const struct zd_migrate_result *result)
{
	zd_fill(&args->result, size - MIN_SIZE, result, sizeof(*result));
}

int zd_migrate_vma_setup_sized(struct zd_migrate_vma *args, size_t size)
{
	static const struct zd_migrate_result none;
	struct zd_migrate_vma_cmd *c;
	int rc;

	if (!args || size < MIN_SIZE)
		return -EINVAL;
	args->cpages = 0;
	args->priv = NULL;
	put_result(args, size, &none);
	if (!good_args(args))
		return -EINVAL;
	c = zd_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->start = c->pos = start_of(args);
	c->end = end_of(args);
	c->dev = args->dev;
	c->size = size;
	do {
		rc = zd_malloc_rule(zd_hmm_of(args->mm), c->start, c->end, c->dev, &c->stay,
				    &c->strict);
		if (!rc)
			rc = run(args, c, zd_migrate_vma_setup_step);
		zd_ranges_destroy(&c->stay);
	} while (rc == -ESTALE);
	if (rc) {
		zd_free(c);
		return rc;
	}
	for (uint64_t i = 0; i < npages(args); i++) {
		args->src[i] = c->src[i];
		args->data[i] = c->data[i];
		args->dst[i] = 0;
		args->cpages += c->src[i] != 0;
	}
	args->priv = c;
	return 0;
}

/* What setup began; or NULL, with a warning. */
static struct zd_migrate_vma_cmd *steps_of(struct zd_migrate_vma *args, const char *call)
{
	struct zd_migrate_vma_cmd *c = args ? args->priv : NULL;

	if (!c)
		zd_warn_once("%s: no zd_migrate_vma_setup() before it that returned 0", call);
	return c;
}

/* The page that dst[i] names.  NULL: it isn't one of the device's, or bits are set that
 * zd_migrate_pfn() doesn't set. */
static struct zd_page *dst_page(const struct zd_migrate_vma *args, uint64_t i)
{
	zd_pfn_t pfn = zd_migrate_pfn_to_pfn(args->dst[i]);

	if (args->dst[i] != zd_migrate_pfn(pfn) ||
	    zd_device_page_index(args->dev, pfn) >= args->dev->nr_pages)
		return NULL;
	return zd_pfn_to_page(pfn);
}

/*
 * Take over the page that dst[i] names.  False: there is none that can be had.  @init: a page
 * as ->alloc_pages gave it, which the driver hasn't initialised, is initialised here.
 */
static bool take(struct zd_migrate_vma *args, struct zd_migrate_vma_cmd *c, uint64_t i, bool init)
{
	struct zd_page *page = dst_page(args, i);
	uint64_t unused = 0;

	if (!page || (int32_t)zd_page_count(page) < 0)
		return false;
	c->dst[i] = zd_page_to_pfn(page);
	if (!zd_page_count(page)) {
		if (!init)
			return true;	/* free, or put since: not taken, so not given back */
		if (zd_page_init(page)) {
			c->took[i] = ZD_VMA_FREE;
			return true;
		}
	}
	if (!__atomic_compare_exchange_n(&page->word, &unused, start_of(args) + i * ZD_PAGE_SIZE,
					 false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return false;
	c->took[i] = ZD_VMA_LIVE;
	return true;
}

static void take_all(struct zd_migrate_vma *args, struct zd_migrate_vma_cmd *c, bool init)
{
	for (uint64_t i = 0; i < npages(args); i++)
		if (args->dst[i] && !take(args, c, i, init))
			zd_warn_once(
				"zd_migrate_vma: dst[] names no page of the device, or one that is in use: it is left alone");
}

/* Give back the page of dst[i], if it was taken and nothing went there. */
static void give_back(struct zd_migrate_vma *args, struct zd_migrate_vma_cmd *c, uint64_t i)
{
	struct zd_page *page = zd_pfn_to_page(c->dst[i]);

	if (c->took[i] == ZD_VMA_NOTHING || c->went[i])
		return;
	if (args->dst[i] != zd_migrate_pfn(c->dst[i])) {
		/* the driver has cleared the entry: the page is its own again */
		if (zd_page_count(page))
			page->word = 0;
	} else if (c->took[i] == ZD_VMA_FREE) {
		args->dev->ops->unalloc_pages(args->dev, 1, &c->dst[i]);
	} else if (zd_page_count(page)) {
		zd_put_page(page);
	} else {
		zd_warn_once(
			"zd_migrate_vma_finalize: dst[] names a page that the driver has put: clear the entry");
	}
}

void zd_migrate_vma_pages(struct zd_migrate_vma *args)
{
	struct zd_migrate_vma_cmd *c = steps_of(args, "zd_migrate_vma_pages");

	if (!c)
		return;
	if (c->paged) {
		zd_warn_once("zd_migrate_vma_pages: called twice");
		return;
	}
	c->paged = true;
	if (!zd_hmm_callable(zd_hmm_of(args->mm))) {
		take_all(args, c, true);
		run(args, c, zd_migrate_vma_pages_step);
	}
	for (uint64_t i = 0; i < npages(args); i++)
		if (!c->went[i])
			args->src[i] &= ~ZD_MIGRATE_PFN_MIGRATE;
}

void zd_migrate_vma_finalize(struct zd_migrate_vma *args)
{
	struct zd_migrate_vma_cmd *c = steps_of(args, "zd_migrate_vma_finalize");

	/* A forked child may not: the steps are its parent's. */
	if (!c || zd_hmm_callable(zd_hmm_of(args->mm)))
		return;
	if (!c->paged)
		take_all(args, c, false);
	run(args, c, zd_migrate_vma_finalize_step);
	for (uint64_t i = 0; i < npages(args); i++) {
		give_back(args, c, i);
		if (!c->went[i])
			args->src[i] &= ~ZD_MIGRATE_PFN_MIGRATE;
	}
	zd_migrate_count_rest(&c->result, npages(args));
	put_result(args, c->size, &c->result);
	args->priv = NULL;
	zd_free(c);
}
