/* SPDX-License-Identifier: MIT */
/*
 * Pagemaps: how they are mapped, and how they are removed.  (pfn_range.c has the
 * tables of mapped pagemaps and the lookups.)
 *
 * Removal, in this order (zd_memunmap_pages):
 *
 *	kill		new references fail from here on
 *	revoke		the owner makes holders let go; may call it off
 *	put base	now the count can reach zero
 *	wait		for the release function
 *	unpublish, grace period: a lookup may still be looking at the reference
 *	exit		the reference's slots are freed
 *	decommit	the descriptors are zero again
 *
 * and the range can't be given out again before the end, since map_lock is held from
 * the unpublishing on.
 *
 * A removal waits for every page_free and calls revoke, so a removal that is begun
 * inside either would wait for itself: page_free leaves a mark in its thread, revoke leaves
 * its thread's mark in the pagemap.
 *
 * Fork.  In the child, what another thread was unmapping stays so (-EBUSY), or is gone.
 *
 * Locks: map_lock serialises map and unmap, not holders and lookups.  Held over
 * grace periods: never take it in a read-side section.  alloc_lock and
 * ref->lock nest inside.
 */
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

#include <zonedev/log.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/lock.h"
#include "base/percpu.h"
#include "base/sized.h"
#include "base/time.h"
#include "base/tls.h"
#include "base/trace.h"
#include "pages/holders.h"
#include "pages/page.h"
#include "pages/page_owner.h"
#include "pages/pagemap.h"
#include "pages/pfn_range.h"

static struct zd_mutex map_lock;

/* Take map_lock.  The pfns of a range that a thread was removing, which a fork has lost, can
 * be given out again once the descriptors are clear.  May block. */
static void lock_maps(void)
{
	if (zd_mutex_lock(&map_lock))
		zd_pfn_range_clear();
}

/* --- lookup --- */

/* Any thread; doesn't block. */
struct zd_pagemap *(zd_get_dev_pagemap)(zd_pfn_t pfn)
{
	struct zd_pagemap_priv *p = zd_pagemap_tryget(pfn);

	return p ? p->pgmap : NULL;
}

void (zd_put_dev_pagemap)(struct zd_pagemap *pgmap)
{
	zd_percpu_ref_put(&pgmap->priv->ref);
}

/* --- map --- */

/* The last reference was put: in that thread, which may hold any lock.  Doesn't block. */
static void pagemap_release(struct zd_percpu_ref *ref)
{
	struct zd_pagemap_priv *p =
		(struct zd_pagemap_priv *)((char *)ref - offsetof(struct zd_pagemap_priv, ref));

	zd_complete(&p->released);
}

/* An op, or NULL where the caller's struct is too short to have it. */
#define OPS_GET(ops, op)							\
	((ops) && (ops)->size >= offsetof(struct zd_pagemap_ops, op) +		\
	 sizeof((ops)->op) ? (ops)->op : NULL)

static bool known_type(enum zd_memory_type type)
{
	switch (type) {
	case ZD_MEMORY_DEVICE_PRIVATE:
	case ZD_MEMORY_FS_DAX:
	case ZD_MEMORY_GENERIC:
	case ZD_MEMORY_P2PDMA:
	case ZD_MEMORY_SYSTEM:
		return true;
	}
	return false;
}

static int pagemap_check(const struct zd_pagemap *pgmap)
{
	const char *what = NULL;

	if (!known_type(pgmap->type))
		what = pgmap->type ? "unknown type" : "no type: set pgmap->type";
	else if (pgmap->nr_pages == 0)
		what = "no pages";
	else if (pgmap->ops && pgmap->ops->size < sizeof(pgmap->ops->size))
		what = "ops without size";
	else if (pgmap->ops && !zd_tail_is_zero(pgmap->ops, sizeof(*pgmap->ops), pgmap->ops->size))
		what = "ops with calls that are not known here";
	else if (pgmap->type == ZD_MEMORY_DEVICE_PRIVATE && !OPS_GET(pgmap->ops, page_free))
		what = "device-private pages without page_free";
	else if (pgmap->priv)
		what = "mapped already";
	if (!what)
		return 0;
	zd_warn_once("zd_memremap_pages: %s", what);
	return -EINVAL;
}

static struct zd_pagemap_priv *priv_alloc(struct zd_pagemap *pgmap)
{
	struct zd_pagemap_priv *p = zd_alloc(sizeof(*p));

	if (!p)
		return NULL;
	p->live = zd_percpu_alloc(&p->live_mask);
	if (!p->live)
		goto err_free;
	if (zd_percpu_ref_init(&p->ref, pagemap_release, 0))
		goto err_live;
	p->pgmap = pgmap;
	p->nr_pages = pgmap->nr_pages;
	p->page_free = OPS_GET(pgmap->ops, page_free);
	p->revoke = OPS_GET(pgmap->ops, revoke);
	return p;

err_live:
	zd_free(p->live);
err_free:
	zd_free(p);
	return NULL;
}

static void priv_free(struct zd_pagemap_priv *p)
{
	zd_percpu_ref_exit(&p->ref);
	zd_free(p->live);
	zd_free(p);
}

/* Any thread; blocks for map_lock and grace periods. */
int zd_memremap_pages(struct zd_pagemap *pgmap)
{
	struct zd_pfn_range r;
	int err;

	err = pagemap_check(pgmap);
	if (err)
		return err;
	if (pgmap->nr_pages > 1ULL << ZD_PFN_BITS)
		return -ENOSPC;
	r.priv = priv_alloc(pgmap);
	if (!r.priv)
		return -ENOMEM;

	lock_maps();
	err = zd_pfn_range_find(pgmap->nr_pages, &r);
	if (err)
		goto err_unlock;
	pgmap->pfn = r.first;
	pgmap->priv = r.priv;
	zd_pfn_range_insert(&r);
	zd_mutex_unlock(&map_lock);
	return 0;

err_unlock:
	zd_mutex_unlock(&map_lock);
	priv_free(r.priv);
	return err;
}

/* --- unmap --- */

/* For tests. */
void (*zd_teardown_hook)(const void *what, const char *step);

/* In each thread another address: the thread's mark in @revoking_in. */
static ZD_TLS char self;

/* Claim @pgmap for a removal by this thread; end_unmap() gives it back. */
static int begin_unmap(struct zd_pagemap *pgmap)
{
	int err = 0;

	lock_maps();
	if (!zd_pfn_range_has(pgmap))
		err = -EINVAL;
	else if (zd_in_page_free ||
		 __atomic_load_n(&pgmap->priv->revoking_in, __ATOMIC_RELAXED) == &self)
		err = -EDEADLK;
	else if (pgmap->priv->busy)
		err = -EBUSY;
	else
		pgmap->priv->busy = true;
	zd_mutex_unlock(&map_lock);
	if (err == -EINVAL)
		zd_warn_once("zd_memunmap_pages: not mapped");
	if (err == -EDEADLK)
		zd_warn_once("removal of a pagemap from inside %s: it would wait for itself",
			     zd_in_page_free ? "page_free" : "its revoke");
	return err;
}

/* The removal has timed out or was called off, or there was only a claim. */
static void end_unmap(struct zd_pagemap *pgmap)
{
	lock_maps();
	pgmap->priv->busy = false;
	zd_mutex_unlock(&map_lock);
}

int zd_pagemap_claim(struct zd_pagemap *pgmap)
{
	int err = begin_unmap(pgmap);

	if (!err && pgmap->priv->killed) {
		end_unmap(pgmap);
		err = -ENODEV;
	}
	return err;
}

void zd_pagemap_unclaim(struct zd_pagemap *pgmap)
{
	end_unmap(pgmap);
}

/* The kill drops the initial reference; the one that is taken here stands in for it until
 * the owner has agreed. */
static void kill_ref(struct zd_pagemap *pgmap)
{
	struct zd_pagemap_priv *p = pgmap->priv;

	zd_teardown_step(pgmap, "kill");
	ZD_PROBE2(pagemap_kill, pgmap->pfn, p->nr_pages);
	zd_percpu_ref_get(&p->ref);
	zd_percpu_ref_kill(&p->ref);
}

/* By the thread that has claimed @pgmap, without a lock.  @revoke may be NULL; it may block. */
static int call_revoke(struct zd_pagemap *pgmap, int (*revoke)(struct zd_pagemap *pgmap))
{
	int err;

	if (!revoke)
		return 0;
	zd_teardown_step(pgmap, "revoke");
	/* Relaxed: only this thread can find its own mark there. */
	__atomic_store_n(&pgmap->priv->revoking_in, &self, __ATOMIC_RELAXED);
	err = revoke(pgmap);
	__atomic_store_n(&pgmap->priv->revoking_in, NULL, __ATOMIC_RELAXED);
	return err;
}

/* Now the count can reach zero. */
static void put_base(struct zd_pagemap *pgmap)
{
	zd_teardown_step(pgmap, "put");
	zd_percpu_ref_put(&pgmap->priv->ref);
}

static void warn_waiting(const struct zd_pagemap *pgmap)
{
	struct zd_pagemap_holders h;

	zd_pagemap_holders(pgmap, &h);
	zd_log(ZD_LOG_WARN,
	       "removal of the pages at pfn %#llx still waits for %llu pages (first: pfn %#llx) and %llu other holds",
	       (unsigned long long)pgmap->pfn, (unsigned long long)h.nr_pages,
	       h.nr_pfns ? (unsigned long long)h.pfns[0] : 0ULL, (unsigned long long)h.nr_refs);
	ZD_PAGE_OWNER_TELL(log, pgmap);
}

/* By the thread that has claimed @pgmap, without a lock.  May block. */
int zd_pagemap_wait(struct zd_pagemap *pgmap, int ms, struct zd_pagemap_holders *out)
{
	struct zd_completion *released = &pgmap->priv->released;

	zd_teardown_step(pgmap, "wait");
	if (zd_wait_for_completion_timeout(released, ms < 0 ? 10000 : (unsigned int)ms))
		return 0;
	if (ms >= 0) {
		if (out)
			zd_pagemap_holders(pgmap, out);
		ZD_PAGE_OWNER_TELL(log, pgmap);
		return -ETIMEDOUT;
	}
	warn_waiting(pgmap);
	zd_wait_for_completion(released);
	return 0;
}

/* The count is zero: take @pgmap out of the tables and clear its descriptors.  Waits for a
 * grace period, with map_lock. */
void zd_pagemap_exit(struct zd_pagemap *pgmap)
{
	struct zd_pagemap_priv *p = pgmap->priv;

	zd_teardown_step(pgmap, "exit");
	ZD_PROBE2(pagemap_release, pgmap->pfn, p->nr_pages);
	ZD_PAGE_OWNER_TELL(released, pgmap->pfn);
	lock_maps();
	zd_pfn_range_remove(pgmap->pfn);
	pgmap->priv = NULL;
	priv_free(p);
	zd_pfn_range_clear();
	zd_mutex_unlock(&map_lock);
}

/* Of @ms (< 0: for ever), what is left until @until. */
static int ms_left(int ms, int64_t until)
{
	int64_t now = ms > 0 ? zd_now_ms() : 0;

	return ms <= 0 ? ms : until > now ? (int)(until - now) : 0;
}

/* Any thread, without locks; may block. */
int zd_pagemap_unmap(struct zd_pagemap *pgmap, int ms, struct zd_pagemap_holders *out,
		     int (*again)(struct zd_pagemap *pgmap))
{
	struct zd_pagemap_priv *p;
	int err = begin_unmap(pgmap);

	if (err)
		return err;
	p = pgmap->priv;
	p->until_ms = ms < 0 ? 0 : zd_now_ms() + ms;

	/* Kill and revoke: once, but for an owner that asks @again after a timeout.  Then a
	 * reference stands in for the initial one, so that a refusal can call the whole
	 * removal off; where there is none to be had the wait is over. */
	if (!p->killed) {
		kill_ref(pgmap);
		err = call_revoke(pgmap, p->revoke);
	} else if (again && zd_percpu_ref_tryget(&p->ref)) {
		err = call_revoke(pgmap, again);
	} else {
		goto wait;
	}
	if (err)
		zd_percpu_ref_resurrect(&p->ref);
	p->killed = !err;
	put_base(pgmap);
	if (err)
		goto err_end;

wait:
	err = zd_pagemap_wait(pgmap, ms_left(ms, p->until_ms), out);
	if (err)
		goto err_end;
	zd_pagemap_exit(pgmap);
	return 0;

err_end:
	end_unmap(pgmap);
	return err;
}

int zd_memunmap_pages_timeout_sized(struct zd_pagemap *pgmap, unsigned int ms,
				    struct zd_pagemap_holders *out, size_t size)
{
	struct zd_pagemap_holders holders = { 0 };
	int err = zd_pagemap_unmap(pgmap, ms < INT_MAX ? (int)ms : INT_MAX, out ? &holders : NULL,
				   NULL);

	if (out)
		zd_fill(out, size, &holders, sizeof(holders));
	return err;
}

int zd_memunmap_pages(struct zd_pagemap *pgmap)
{
	return zd_pagemap_unmap(pgmap, -1, NULL, NULL);
}

/* The first steps of the same, for owners with steps of their own (pagemap.h). */

int zd_pagemap_kill(struct zd_pagemap *pgmap)
{
	int err = begin_unmap(pgmap);

	if (!err)
		kill_ref(pgmap);
	return err;
}

void zd_pagemap_put_base(struct zd_pagemap *pgmap)
{
	pgmap->priv->killed = true;
	put_base(pgmap);
}
