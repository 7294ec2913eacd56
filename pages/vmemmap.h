/* SPDX-License-Identifier: MIT */
/* Internals shared by page.c and pagemap.c. */
#ifndef ZD_PAGES_VMEMMAP_H
#define ZD_PAGES_VMEMMAP_H

#include <stdbool.h>

#include <zonedev/pagemap.h>
#include <zonedev/percpu_ref.h>

#include "base/lock.h"
#include "base/tls.h"

/*
 * struct zd_pagemap_state - a mapped pagemap, ours alone.
 *
 * Lives from zd_memremap_pages() to the end of the grace period in unmap.
 * @ref: one for each live page and each zd_get_dev_pagemap(), and the base.
 * @page_free, @revoke: from ops, NULL where the owner's are shorter.
 */
struct zd_pagemap_state {
	struct zd_percpu_ref ref;
	struct zd_pagemap *pgmap;
	uint64_t nr_pages;
	void (*page_free)(struct zd_page *page);
	int (*revoke)(struct zd_pagemap *pgmap);
	struct zd_percpu_slot *live;	/* pages: init'ed minus freed */
	uint32_t live_mask;
	uint32_t id;
	struct zd_completion released;
	bool killed;			/* revoked too; by whoever set @busy */
	bool busy;			/* an unmap is at work; under map_lock */
	const void *revoking_in;	/* the thread that is inside ops->revoke */
	uint64_t until_ms;		/* of the unmap at work, by CLOCK_MONOTONIC; 0: none */
};

/* The held state of the pagemap around @pfn, or NULL: none, or being unmapped.
 * ..._dying: also one that is being unmapped, if somebody else holds it. */
struct zd_pagemap_state *zd_pagemap_tryget(zd_pfn_t pfn);
struct zd_pagemap_state *zd_pagemap_tryget_dying(zd_pfn_t pfn);

/*
 * vmemmap.c: the descriptor table.  _init: where it will be; 0, or -ENOMEM.  _open: make
 * the descriptors of @nr pfns from @first on, and all below, readable and writable: 0;
 * -ENOSPC: it has fewer; -ENOMEM.  Both under map_lock.
 */
int zd_vmemmap_init(void);
int zd_vmemmap_open(zd_pfn_t first, uint64_t nr);

/* By zd_page.pgmap_id, without its flags.  NULL: none. */
struct zd_pagemap_state *zd_pagemap_by_id(uint32_t id);

/* How many page_free calls this thread is inside of. */
extern ZD_TLS unsigned int zd_in_page_free;

/* zd_memunmap_pages(), and with @ms >= 0 the timed form.  @again (may be NULL): in
 * place of ops->revoke when an earlier call has revoked already; what it refuses
 * is live again. */
int zd_pagemap_unmap(struct zd_pagemap *pgmap, int ms, struct zd_pagemap_holders *out,
		     int (*again)(struct zd_pagemap *pgmap));

/*
 * The steps of zd_memunmap_pages(), for an owner that takes others between
 * them.  Each once, in this order, by one thread at a time; ops->revoke is not
 * called: revoking comes between kill and put_base.
 *
 * zd_pagemap_kill: new references fail.  -EINVAL: not mapped; -EBUSY: being
 * unmapped.  zd_pagemap_wait: for the holders, @ms milliseconds (< 0: for ever,
 * with a warning after 10 s); -ETIMEDOUT: call it again.
 */
int zd_pagemap_kill(struct zd_pagemap *pgmap);
void zd_pagemap_put_base(struct zd_pagemap *pgmap);
int zd_pagemap_wait(struct zd_pagemap *pgmap, int ms, struct zd_pagemap_holders *out);
void zd_pagemap_exit(struct zd_pagemap *pgmap);

/* For tests: called as a step of the teardown of @what is taken. */
extern void (*zd_teardown_hook)(const void *what, const char *step);

static inline void zd_teardown_step(const void *what, const char *step)
{
	if (zd_teardown_hook)
		zd_teardown_hook(what, step);
}

/* @fn for each live page of @pgmap, ascending, until it returns false. */
void zd_pagemap_for_each_live(const struct zd_pagemap *pgmap, bool (*fn)(zd_pfn_t pfn, void *ctx),
			      void *ctx);

/* Who holds @pgmap, which the caller is unmapping. */
void zd_pagemap_holders(const struct zd_pagemap *pgmap, struct zd_pagemap_holders *out);

#endif
