/* SPDX-License-Identifier: MIT */
/*
 * Ranges of pfns: which are taken, by whom, and the descriptor table behind them.
 *
 * Mechanism.  The descriptor table is reserved once, 16 bytes for each of 2^36
 * pfns, and committed by touching; a range's descriptors are zero when it is
 * mapped because they are decommitted when it is unmapped.  The mapped ranges
 * stand in a sorted array that readers search under RCU.  There are two such
 * arrays of the same capacity: a change is made in the spare one, which is then
 * published, and after a grace period the old one is the spare.  So removing a
 * range never allocates.
 *
 * Invariant.  A state that a reader finds is valid until the reader's section
 * ends, or as long as it holds state->ref: zd_pfn_range_remove() returns after a
 * grace period, and its caller frees the state, clears the descriptors and gives
 * others the pfns after that.
 *
 * Everything but the lookup: under pagemap.c's map_lock.
 */
#include <errno.h>
#include <string.h>

#include <zonedev/log.h>

#include "core/alloc.h"
#include "core/bug.h"
#include "core/pfn_range.h"
#include "core/rcu.h"
#include "core/vmemmap.h"

#define RANGE_ALIGN	512ULL	/* pfns: 2 MiB of pages, whole pages of descriptors */
#define MIN_VMEMMAP	(1ULL << 16)

struct lookup {
	uint32_t nr, capacity;
	struct zd_pfn_range ranges[];
};

struct zd_page *zd_vmemmap;
static uint64_t vmemmap_pfns;

static struct lookup *current, *spare;	/* current: RCU */

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

static struct zd_pagemap_state *tryget(zd_pfn_t pfn,
				       bool (*get)(struct zd_percpu_ref *ref))
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
			  !get(&s->ref)))
			s = NULL;
	}
	zd_rcu_read_unlock();
	return s;
}

struct zd_pagemap_state *zd_pagemap_tryget(zd_pfn_t pfn)
{
	return tryget(pfn, zd_percpu_ref_tryget_live);
}

struct zd_pagemap_state *zd_pagemap_tryget_dying(zd_pfn_t pfn)
{
	return tryget(pfn, zd_percpu_ref_tryget);
}

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

void zd_pfn_range_insert(const struct zd_pfn_range *r)
{
	uint32_t at = range_above(current, r->first);

	memcpy(spare->ranges, current->ranges, at * sizeof(*r));
	spare->ranges[at] = *r;
	memcpy(&spare->ranges[at + 1], &current->ranges[at], (current->nr - at) * sizeof(*r));
	spare->nr = current->nr + 1;
	lookup_swap();
}

struct zd_pfn_range zd_pfn_range_remove(zd_pfn_t first)
{
	uint32_t at = range_above(current, first);
	struct zd_pfn_range r = current->ranges[at];

	ZD_BUG_ON(at == current->nr || r.first != first, "pfn %#llx isn't mapped",
		  (unsigned long long)first);
	memcpy(spare->ranges, current->ranges, at * sizeof(r));
	memcpy(&spare->ranges[at], &current->ranges[at + 1],
	       (current->nr - at - 1) * sizeof(r));
	spare->nr = current->nr - 1;
	lookup_swap();
	return r;
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

/* First fit. */
int zd_pfn_range_find(uint64_t nr_pages, struct zd_pfn_range *r)
{
	uint64_t size = (nr_pages + RANGE_ALIGN - 1) & ~(RANGE_ALIGN - 1);
	zd_pfn_t first = RANGE_ALIGN;	/* not 0: pfn 0 is "no page" */
	uint32_t i;
	int err;

	err = vmemmap_reserve();
	if (!err)
		err = lookup_grow();
	if (err)
		return err;
	for (i = 0; i < current->nr; i++) {
		if (current->ranges[i].first - first >= size)
			break;
		first = current->ranges[i].end;
	}
	if (i == current->nr && (first > vmemmap_pfns || vmemmap_pfns - first < size))
		return -ENOSPC;
	r->first = first;
	r->end = first + size;
	return 0;
}

bool zd_pfn_range_has(const struct zd_pagemap *pgmap)
{
	for (uint32_t i = 0; current && i < current->nr; i++)
		if (current->ranges[i].state->pgmap == pgmap)
			return true;
	return false;
}
