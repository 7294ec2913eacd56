/* SPDX-License-Identifier: MIT */
/*
 * Pagemaps: ranges of pfns, their lookup, their removal.
 *
 * Mechanism.  The descriptor table is reserved once, 16 bytes for each of 2^36
 * pfns, and committed by touching; a range's descriptors are zero when it is
 * mapped because they are decommitted when it is unmapped.  The mapped ranges
 * stand in a sorted array that readers search under RCU.  There are two such
 * arrays of the same capacity: a change is made in the spare one, which is then
 * published, and after a grace period the old one is the spare.  So unmapping
 * never allocates.
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
 * and the range can't be given out before the end, since map_lock is held from
 * the unpublishing on.
 *
 * Invariants:
 *  1. A state that a reader finds in the array or by id is valid until the
 *     reader's section ends, or as long as it holds state->ref.
 *  2. by_id[id] is cleared only when the count is zero, so a live page always
 *     finds its state.
 *
 * Locks: map_lock serialises map and unmap, not holders and lookups.  Held over
 * grace periods: never take it in a read-side section.  alloc_lock and
 * ref->lock nest inside.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <zonedev/log.h>

#include "core/alloc.h"
#include "core/bug.h"
#include "core/lock.h"
#include "core/percpu.h"
#include "core/rcu.h"
#include "core/trace.h"
#include "core/vmemmap.h"

#define RANGE_ALIGN	512ULL	/* pfns: 2 MiB of pages, whole pages of descriptors */
#define MIN_VMEMMAP	(1ULL << 16)
#define MAX_PAGEMAPS	4096U	/* ids; 0 means none */

struct range {
	zd_pfn_t first, end;	/* end: as reserved, rounded up to RANGE_ALIGN */
	struct zd_pagemap_state *state;
};

struct lookup {
	uint32_t nr, capacity;
	struct range ranges[];
};

struct zd_page *zd_vmemmap;
static uint64_t vmemmap_pfns;

static struct zd_mutex map_lock;
static struct lookup *current, *spare;	/* current: RCU; both: map_lock */
static struct zd_pagemap_state *by_id[MAX_PAGEMAPS];

/* --- lookup --- */

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

struct zd_pagemap_state *zd_pagemap_tryget(zd_pfn_t pfn)
{
	struct zd_pagemap_state *s = NULL;
	const struct lookup *l;
	uint32_t i;

	zd_rcu_read_lock();
	l = zd_rcu_dereference(current);
	if (l) {
		i = range_above(l, pfn);
		if (i < l->nr && pfn >= l->ranges[i].first)
			s = l->ranges[i].state;
		/* The range was rounded up; the pagemap ends where it ends. */
		if (s && (pfn - l->ranges[i].first >= s->nr_pages ||
			  !zd_percpu_ref_tryget_live(&s->ref)))
			s = NULL;
	}
	zd_rcu_read_unlock();
	return s;
}

struct zd_pagemap_state *zd_pagemap_by_id(uint32_t id)
{
	return id < MAX_PAGEMAPS ? zd_rcu_dereference(by_id[id]) : NULL;
}

struct zd_pagemap *zd_get_dev_pagemap(zd_pfn_t pfn)
{
	struct zd_pagemap_state *s = zd_pagemap_tryget(pfn);

	return s ? s->pgmap : NULL;
}

void zd_put_dev_pagemap(struct zd_pagemap *pgmap)
{
	zd_percpu_ref_put(&pgmap->state->ref);
}

uint64_t zd_pagemap_live_pages(const struct zd_pagemap *pgmap)
{
	const struct zd_pagemap_state *s = pgmap->state;
	int64_t n = s ? zd_percpu_sum(s->live, s->live_mask) : 0;

	/* A page freed on a CPU whose slot was read after that of its init. */
	return n < 0 ? 0 : (uint64_t)n;
}

/* --- the table of ranges; all under map_lock --- */

static struct lookup *lookup_alloc(uint32_t capacity)
{
	struct lookup *l = zd_alloc(sizeof(*l) + capacity * sizeof(l->ranges[0]));

	if (l)
		l->capacity = capacity;
	return l;
}

/* Room for one more in both arrays. */
static int lookup_grow(void)
{
	uint32_t capacity = current ? current->capacity * 2 : 16;
	struct lookup *a, *b, *old;

	if (current && current->nr < current->capacity)
		return 0;
	a = lookup_alloc(capacity);
	if (!a)
		return -ENOMEM;
	b = lookup_alloc(capacity);
	if (!b)
		goto err_free;

	old = current;
	if (old) {
		a->nr = old->nr;
		memcpy(a->ranges, old->ranges, old->nr * sizeof(old->ranges[0]));
	}
	zd_rcu_assign(current, a);
	if (old)
		zd_synchronize_rcu();
	zd_free(old);
	zd_free(spare);
	spare = b;
	return 0;

err_free:
	zd_free(a);
	return -ENOMEM;
}

/* Publish @spare, which holds the changed table. */
static void lookup_swap(void)
{
	struct lookup *old = current;

	zd_rcu_assign(current, spare);
	zd_synchronize_rcu();
	spare = old;
}

static void range_insert(uint32_t at, const struct range *r)
{
	memcpy(spare->ranges, current->ranges, at * sizeof(*r));
	spare->ranges[at] = *r;
	memcpy(&spare->ranges[at + 1], &current->ranges[at], (current->nr - at) * sizeof(*r));
	spare->nr = current->nr + 1;
	lookup_swap();
}

static struct range range_remove(zd_pfn_t first)
{
	uint32_t at = range_above(current, first);
	struct range r = current->ranges[at];

	ZD_BUG_ON(at == current->nr || r.first != first, "pfn %#llx isn't mapped",
		  (unsigned long long)first);
	memcpy(spare->ranges, current->ranges, at * sizeof(r));
	memcpy(&spare->ranges[at], &current->ranges[at + 1],
	       (current->nr - at - 1) * sizeof(r));
	spare->nr = current->nr - 1;
	lookup_swap();
	return r;
}

/* First fit.  Sets @r and where it goes in the table; -ENOSPC. */
static int range_find(uint64_t nr_pages, struct range *r, uint32_t *at)
{
	uint64_t size = (nr_pages + RANGE_ALIGN - 1) & ~(RANGE_ALIGN - 1);
	zd_pfn_t first = RANGE_ALIGN;	/* not 0: pfn 0 is "no page" */
	uint32_t i;

	for (i = 0; i < current->nr; i++) {
		if (current->ranges[i].first - first >= size)
			break;
		first = current->ranges[i].end;
	}
	if (i == current->nr && (first > vmemmap_pfns || vmemmap_pfns - first < size))
		return -ENOSPC;
	r->first = first;
	r->end = first + size;
	*at = i;
	return 0;
}

/* 1 TiB of address space, or as much of it as the limits allow. */
static int vmemmap_reserve(void)
{
	uint64_t pfns;
	struct zd_page *v = NULL;

	if (zd_vmemmap)
		return 0;
	for (pfns = 1ULL << ZD_PFN_BITS; pfns >= MIN_VMEMMAP; pfns /= 2) {
		v = zd_reserve(pfns * sizeof(struct zd_page));
		if (v)
			break;
	}
	if (!v)
		return -ENOMEM;
	if (pfns < 1ULL << ZD_PFN_BITS)
		zd_log(ZD_LOG_INFO, "address space is limited (RLIMIT_AS, RLIMIT_DATA or vm.overcommit_memory): room for %llu MiB of device pages",
		       (unsigned long long)(pfns >> (20 - ZD_PAGE_SHIFT)));
	vmemmap_pfns = pfns;
	zd_vmemmap = v;
	return 0;
}

/* --- map --- */

static void pagemap_release(struct zd_percpu_ref *ref)
{
	struct zd_pagemap_state *s = (struct zd_pagemap_state *)
		((char *)ref - offsetof(struct zd_pagemap_state, ref));

	zd_complete(&s->released);
}

/* An op, or NULL where the caller's struct is too short to have it. */
#define OPS_GET(ops, op)							\
	((ops) && (ops)->size >= offsetof(struct zd_pagemap_ops, op) +		\
	 sizeof((ops)->op) ? (ops)->op : NULL)

static int pagemap_check(const struct zd_pagemap *pgmap)
{
	const char *what = NULL;

	if ((unsigned int)pgmap->type > ZD_MEMORY_P2PDMA)
		what = "unknown type";
	else if (pgmap->nr_pages == 0)
		what = "no pages";
	else if (pgmap->ops && pgmap->ops->size < sizeof(pgmap->ops->size))
		what = "ops without size";
	else if (pgmap->type == ZD_MEMORY_DEVICE_PRIVATE && !OPS_GET(pgmap->ops, page_free))
		what = "device-private pages without page_free";
	else if (pgmap->state)
		what = "mapped already";
	if (!what)
		return 0;
	zd_warn_once("zd_memremap_pages: %s", what);
	return -EINVAL;
}

static struct zd_pagemap_state *state_alloc(struct zd_pagemap *pgmap)
{
	struct zd_pagemap_state *s = zd_alloc(sizeof(*s));

	if (!s)
		return NULL;
	s->live = zd_percpu_alloc(&s->live_mask);
	if (!s->live)
		goto err_free;
	if (zd_percpu_ref_init(&s->ref, pagemap_release, 0))
		goto err_live;
	s->pgmap = pgmap;
	s->nr_pages = pgmap->nr_pages;
	s->page_free = OPS_GET(pgmap->ops, page_free);
	s->revoke = OPS_GET(pgmap->ops, revoke);
	return s;

err_live:
	zd_free(s->live);
err_free:
	zd_free(s);
	return NULL;
}

static void state_free(struct zd_pagemap_state *s)
{
	zd_percpu_ref_exit(&s->ref);
	zd_free(s->live);
	zd_free(s);
}

static uint32_t free_id(void)
{
	for (uint32_t id = 1; id < MAX_PAGEMAPS; id++)
		if (!by_id[id])
			return id;
	return 0;
}

int zd_memremap_pages(struct zd_pagemap *pgmap)
{
	struct range r;
	uint32_t at;
	int err;

	err = pagemap_check(pgmap);
	if (err)
		return err;
	if (pgmap->nr_pages > 1ULL << ZD_PFN_BITS)
		return -ENOSPC;
	r.state = state_alloc(pgmap);
	if (!r.state)
		return -ENOMEM;

	zd_mutex_lock(&map_lock);
	err = vmemmap_reserve();
	if (err)
		goto err_unlock;
	err = lookup_grow();
	if (err)
		goto err_unlock;
	err = -ENOSPC;
	r.state->id = free_id();
	if (!r.state->id)
		goto err_unlock;
	err = range_find(pgmap->nr_pages, &r, &at);
	if (err)
		goto err_unlock;

	pgmap->pfn = r.first;
	pgmap->state = r.state;
	zd_rcu_assign(by_id[r.state->id], r.state);
	range_insert(at, &r);
	zd_mutex_unlock(&map_lock);
	return 0;

err_unlock:
	zd_mutex_unlock(&map_lock);
	state_free(r.state);
	return err;
}

/* --- unmap --- */

static int kill_and_revoke(struct zd_pagemap *pgmap)
{
	struct zd_pagemap_state *s = pgmap->state;
	int err = 0;

	/* kill drops the initial reference; this one stands in for it until
	 * the owner has agreed. */
	ZD_PROBE2(pagemap_kill, pgmap->pfn, s->nr_pages);
	zd_percpu_ref_get(&s->ref);
	zd_percpu_ref_kill(&s->ref);
	if (s->revoke)
		err = s->revoke(pgmap);
	if (err)
		zd_percpu_ref_resurrect(&s->ref);
	else
		s->killed = true;
	zd_percpu_ref_put(&s->ref);
	return err;
}

/* The holds are all gone: take it out of the tables and clear its pages. */
static void pagemap_finish(struct zd_pagemap *pgmap)
{
	struct zd_pagemap_state *s = pgmap->state;
	struct range r;

	ZD_PROBE2(pagemap_release, pgmap->pfn, s->nr_pages);
	zd_mutex_lock(&map_lock);
	r = range_remove(pgmap->pfn);
	__atomic_store_n(&by_id[s->id], NULL, __ATOMIC_RELAXED);
	pgmap->state = NULL;
	state_free(s);
	zd_decommit(zd_vmemmap + r.first, (r.end - r.first) * sizeof(struct zd_page));
	zd_mutex_unlock(&map_lock);
}

static void warn_waiting(const struct zd_pagemap *pgmap)
{
	struct zd_pagemap_holders h;

	zd_pagemap_holders(pgmap, &h);
	zd_log(ZD_LOG_WARN, "removal of the pages at pfn %#llx still waits for %llu pages (first: pfn %#llx) and %llu other holds",
	       (unsigned long long)pgmap->pfn, (unsigned long long)h.nr_pages,
	       h.nr_pfns ? (unsigned long long)h.pfns[0] : 0ULL,
	       (unsigned long long)h.nr_refs);
}

static int begin_unmap(struct zd_pagemap *pgmap)
{
	int err = 0;

	zd_mutex_lock(&map_lock);
	if (!pgmap->state)
		err = -EINVAL;
	else if (pgmap->state->busy)
		err = -EBUSY;
	else
		pgmap->state->busy = true;
	zd_mutex_unlock(&map_lock);
	if (err == -EINVAL)
		zd_warn_once("zd_memunmap_pages: not mapped");
	return err;
}

static void end_unmap(struct zd_pagemap *pgmap)
{
	zd_mutex_lock(&map_lock);
	pgmap->state->busy = false;
	zd_mutex_unlock(&map_lock);
}

int zd_memunmap_pages_timeout(struct zd_pagemap *pgmap, unsigned int ms,
			      struct zd_pagemap_holders *out)
{
	int err = begin_unmap(pgmap);

	if (err)
		return err;
	if (!pgmap->state->killed)
		err = kill_and_revoke(pgmap);
	if (!err && !zd_wait_for_completion_timeout(&pgmap->state->released, ms)) {
		err = -ETIMEDOUT;
		if (out)
			zd_pagemap_holders(pgmap, out);
	}
	if (err) {
		end_unmap(pgmap);
		return err;
	}
	pagemap_finish(pgmap);
	return 0;
}

int zd_memunmap_pages(struct zd_pagemap *pgmap)
{
	int err = begin_unmap(pgmap);

	if (err)
		return err;
	if (!pgmap->state->killed)
		err = kill_and_revoke(pgmap);
	if (err) {
		end_unmap(pgmap);
		return err;
	}
	if (!zd_wait_for_completion_timeout(&pgmap->state->released, 10000)) {
		warn_waiting(pgmap);
		zd_wait_for_completion(&pgmap->state->released);
	}
	pagemap_finish(pgmap);
	return 0;
}
