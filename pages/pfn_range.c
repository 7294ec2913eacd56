/* SPDX-License-Identifier: MIT */
/*
 * The pagemaps that are mapped: which pfns are taken, and by which pagemap.
 *
 * Mechanism.  The mapped ranges stand in a sorted array that readers search under RCU.
 * There are two such arrays: a change is made in the one that isn't published, which is
 * then published, and after a grace period the other one is the spare.  So removing a range
 * never allocates.  A second table has the pagemaps by their ids, which the descriptors of
 * live pages carry.  The table of descriptors is vmemmap.c's.
 *
 * Invariants:
 *  1. What a reader finds is valid until the reader's section ends, or as long as the
 *     reader holds priv->ref: zd_pfn_range_remove() returns after a grace period, and its
 *     caller frees the pagemap's part that is zonedev's, clears the descriptors and gives
 *     out the pfns again after that.
 *  2. by_id[id] is cleared only when the count is zero, so a live page always finds its
 *     pagemap.
 *
 * Fork.  What is published is whole, and the spare is written anew each time; a thread
 * that was lost while it made both larger may have left them of unequal size, which
 * lookup_grow() mends; and @leaving tells the child which descriptors are still to be
 * cleared.  An id that such a thread had entered, and not yet the range, is lost.
 *
 * Everything but the lookups: with pagemap.c's map_lock.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "pages/pagemap.h"
#include "pages/pfn_range.h"
#include "pages/rcu.h"
#include "pages/vmemmap.h"

#define RANGE_ALIGN	512ULL	/* pfns: 2 MiB of pages, whole pages of descriptors */

#define MIN_CAPACITY	16U
#define MAX_PAGEMAPS	4096U	/* ids; 0 means none */

struct lookup {
	uint32_t nr, capacity;
	struct zd_pfn_range ranges[];
};

static struct lookup *arrays[2];
static unsigned int published;		/* RCU: which of the two */

static struct zd_pagemap_priv *by_id[MAX_PAGEMAPS];

/* The range that is being removed, whose descriptors are not clear yet.  @end is set last;
 * 0: there is none. */
static struct zd_pfn_range leaving;

static struct lookup *current(void)
{
	return arrays[published];
}

static struct lookup *spare(void)
{
	return arrays[!published];
}

/* Index of the first range that ends above @pfn. */
static uint32_t range_above(const struct lookup *l, zd_pfn_t pfn)
{
	uint32_t lo = 0, hi = l->nr;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (l->ranges[mid].end > pfn)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static struct zd_pagemap_priv *tryget(zd_pfn_t pfn, bool (*get)(struct zd_percpu_ref *ref))
{
	struct zd_pagemap_priv *p = NULL;
	unsigned int section;
	const struct lookup *l;
	uint32_t i;

	if (!__atomic_load_n(&zd_vmemmap, __ATOMIC_ACQUIRE))
		return NULL;	/* and RCU isn't there yet either */
	section = zd_rcu_read_lock();
	l = zd_rcu_dereference(arrays[zd_rcu_dereference(published)]);
	i = range_above(l, pfn);
	if (i < l->nr && pfn >= l->ranges[i].first)
		p = l->ranges[i].priv;
	/* The range was rounded up; the pagemap ends where it ends. */
	if (p && (pfn - l->ranges[i].first >= p->nr_pages || !get(&p->ref)))
		p = NULL;
	zd_rcu_read_unlock(section);
	return p;
}

struct zd_pagemap_priv *zd_pagemap_tryget(zd_pfn_t pfn)
{
	return tryget(pfn, zd_percpu_ref_tryget_live);
}

struct zd_pagemap_priv *zd_pagemap_tryget_dying(zd_pfn_t pfn)
{
	return tryget(pfn, zd_percpu_ref_tryget);
}

struct zd_pagemap_priv *zd_pagemap_by_id(uint32_t id)
{
	return id < MAX_PAGEMAPS ? zd_rcu_dereference(by_id[id]) : NULL;
}

static struct lookup *lookup_alloc(uint32_t capacity)
{
	struct lookup *l = zd_alloc(sizeof(*l) + capacity * sizeof(l->ranges[0]));

	if (l)
		l->capacity = capacity;
	return l;
}

static void lookup_publish(void)
{
	zd_rcu_assign(published, !published);
	zd_synchronize_rcu();
}

/* Make room for one range more in both arrays, each in its turn the spare.  Waits for grace
 * periods. */
static int lookup_grow(void)
{
	uint32_t need = current()->nr + 1;
	struct lookup *l, *old;

	for (int i = 0; i < 2; i++) {
		if (spare()->capacity < need) {
			l = lookup_alloc(need * 2);
			if (!l)
				return -ENOMEM;
			old = spare();
			zd_rcu_assign(arrays[!published], l);
			zd_free(old);
		}
		if (current()->capacity >= need)
			break;
		spare()->nr = current()->nr;
		memcpy(spare()->ranges, current()->ranges,
		       current()->nr * sizeof(current()->ranges[0]));
		lookup_publish();
	}
	return 0;
}

/* Make RCU, both arrays, and last the descriptor table, by which readers know that the others
 * are there. */
static int lookup_init(void)
{
	int err;

	if (zd_vmemmap)
		return 0;
	err = zd_rcu_init();
	if (err)
		return err;
	for (int i = 0; i < 2; i++) {
		if (!arrays[i])
			arrays[i] = lookup_alloc(MIN_CAPACITY);
		if (!arrays[i])
			return -ENOMEM;
	}
	return zd_vmemmap_init();
}

void zd_pfn_range_insert(const struct zd_pfn_range *r)
{
	const struct lookup *l = current();
	uint32_t at = range_above(l, r->first);
	struct lookup *next = spare();

	zd_rcu_assign(by_id[r->priv->id], r->priv);
	memcpy(next->ranges, l->ranges, at * sizeof(*r));
	next->ranges[at] = *r;
	memcpy(&next->ranges[at + 1], &l->ranges[at], (l->nr - at) * sizeof(*r));
	next->nr = l->nr + 1;
	lookup_publish();
}

void zd_pfn_range_remove(zd_pfn_t first)
{
	const struct lookup *l = current();
	uint32_t at = range_above(l, first);
	struct lookup *next = spare();
	uint32_t id;

	ZD_BUG_ON(at == l->nr || l->ranges[at].first != first, "pfn %#llx isn't mapped",
		  (unsigned long long)first);
	id = l->ranges[at].priv->id;
	leaving.first = first;
	__atomic_store_n(&leaving.end, l->ranges[at].end, __ATOMIC_RELEASE);
	memcpy(next->ranges, l->ranges, at * sizeof(next->ranges[0]));
	memcpy(&next->ranges[at], &l->ranges[at + 1], (l->nr - at - 1) * sizeof(next->ranges[0]));
	next->nr = l->nr - 1;
	lookup_publish();
	/* Relaxed: no page of the pagemap is live, so no descriptor leads here. */
	__atomic_store_n(&by_id[id], NULL, __ATOMIC_RELAXED);
}

void zd_pfn_range_clear(void)
{
	if (!leaving.end)
		return;
	zd_decommit(zd_vmemmap + leaving.first,
		    (leaving.end - leaving.first) * sizeof(struct zd_page));
	__atomic_store_n(&leaving.end, 0, __ATOMIC_RELEASE);
}

static uint32_t free_id(void)
{
	for (uint32_t id = 1; id < MAX_PAGEMAPS; id++)
		if (!by_id[id])
			return id;
	return 0;
}

/* First fit. */
int zd_pfn_range_find(uint64_t nr_pages, struct zd_pfn_range *r)
{
	uint64_t size = (nr_pages + RANGE_ALIGN - 1) & ~(RANGE_ALIGN - 1);
	zd_pfn_t first = RANGE_ALIGN;	/* not 0: pfn 0 is "no page" */
	const struct lookup *l;
	uint32_t i;
	int err;

	err = lookup_init();
	if (!err)
		err = lookup_grow();
	if (err)
		return err;
	l = current();
	for (i = 0; i < l->nr; i++) {
		if (l->ranges[i].first - first >= size)
			break;
		first = l->ranges[i].end;
	}
	err = zd_vmemmap_open(first, size);
	if (err)
		return err;
	r->priv->id = free_id();
	if (!r->priv->id)
		return -ENOSPC;
	r->first = first;
	r->end = first + size;
	return 0;
}

bool zd_pfn_range_has(const struct zd_pagemap *pgmap)
{
	for (uint32_t i = 0; zd_vmemmap && i < current()->nr; i++)
		if (current()->ranges[i].priv->pgmap == pgmap)
			return true;
	return false;
}
