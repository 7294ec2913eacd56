/* SPDX-License-Identifier: MIT */
/*
 * What zonedev knows of a mapped pagemap, and the steps of its removal for owners that take
 * steps of their own in between (drivers/dax/, drivers/pmem/).
 */
#ifndef ZD_PAGES_PAGEMAP_H
#define ZD_PAGES_PAGEMAP_H

#include <stdbool.h>

#include <zonedev/pagemap.h>
#include <zonedev/percpu_ref.h>

#include "base/lock.h"

/*
 * struct zd_pagemap_priv - the part of a mapped pagemap that is zonedev's alone.
 *
 * Lives from zd_memremap_pages() to the end of the grace period in unmap.
 * @ref: one for each live page and each zd_get_dev_pagemap(), and the base.
 * @page_free, @revoke: from ops, NULL where the owner's are shorter.
 */
struct zd_pagemap_priv {
	struct zd_percpu_ref ref;
	struct zd_pagemap *pgmap;
	uint64_t nr_pages;
	void (*page_free)(struct zd_page *page);
	int (*revoke)(struct zd_pagemap *pgmap);
	struct zd_percpu_slot *live;	/* pages: init'ed minus freed */
	uint32_t live_mask;
	uint32_t id;
	struct zd_completion released;
	bool killed;			/* and revoked; by the thread that has set @busy */
	bool busy;			/* an unmap is at work, or a claim; under map_lock */
	const void *revoking_in;	/* the thread that is inside ops->revoke */
	int64_t until_ms;		/* of the unmap at work: zd_now_ms(); 0: none */
};

/* zd_pagemap_unmap - zd_memunmap_pages(), and with @ms >= 0 the timed form.  @again (may be
 * NULL): called in place of ops->revoke where an earlier call has revoked already; if it
 * refuses, the pagemap is live again.  May block. */
int zd_pagemap_unmap(struct zd_pagemap *pgmap, int ms, struct zd_pagemap_holders *out,
		     int (*again)(struct zd_pagemap *pgmap));

/*
 * The steps of zd_memunmap_pages(), for an owner that takes steps of its own between
 * them.  Each once, in this order, by one thread at a time; ops->revoke is not
 * called: the owner revokes between kill and put_base.
 *
 * zd_pagemap_kill: new references fail.  -EINVAL: not mapped; -EBUSY: being
 * unmapped.  zd_pagemap_wait: for the holders, @ms milliseconds (< 0: for ever,
 * with a warning after 10 s); -ETIMEDOUT: call it again.
 */
int zd_pagemap_kill(struct zd_pagemap *pgmap);
void zd_pagemap_put_base(struct zd_pagemap *pgmap);
int zd_pagemap_wait(struct zd_pagemap *pgmap, int ms, struct zd_pagemap_holders *out);
void zd_pagemap_exit(struct zd_pagemap *pgmap);

/* zd_pagemap_claim - until zd_pagemap_unclaim() by the same thread, no other removes @pgmap.  -EINVAL:
 * not mapped; -EBUSY: another thread has it; -EDEADLK: from inside page_free; -ENODEV: its
 * removal has begun. */
int zd_pagemap_claim(struct zd_pagemap *pgmap);
void zd_pagemap_unclaim(struct zd_pagemap *pgmap);

/* For tests: called at each step of the teardown of @what. */
extern void (*zd_teardown_hook)(const void *what, const char *step);

static inline void zd_teardown_step(const void *what, const char *step)
{
	if (zd_teardown_hook)
		zd_teardown_hook(what, step);
}

#endif
