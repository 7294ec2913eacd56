/* SPDX-License-Identifier: MIT */
/*
 * drivers/dax/dax.h - memory of a device that the CPU can address, as its drivers see
 * it: dax/open.c, pmem/ and p2p/ embed a struct zd_dax and share
 *
 *	open.c		from a path to a struct zd_dax of its own
 *	steps.c		its end, step by step
 *	access.c	guarded access to a mapping
 *	mapping.c	mappings for the program, and their revocation
 *	dax.c		the region: its pagemap, its own mapping, its live pages
 *	place.c		where a mapping lies
 *
 * Each calls those below it only.
 *
 * Two kinds of mapping of one memory.  The region's own (@base) is what the kernel has in
 * its direct map: made once, never in a forked child, there until no page is held;
 * zd_page_address() points into it.  The program's are made by zd_dax_mmap() and can be
 * revoked.
 *
 * Which pages are live.  A page goes from 0 to 1 when it is first asked for
 * (zd_dax_get_page()), by whichever of several mappings and callers, and back with
 * the last put.  Between "count is 0" and "free" lies the last putter's way to
 * page_free; a bit a page tells the two apart, set and cleared under @page_lock.
 * With @by_owner pages are live from when their owner allocated them, and
 * zd_dax_get_page() only adds a reference.
 *
 * Locks.  mappings_lock (mapping.c): the lists of mappings, dax->killed.  Held over
 * mmap(); and, while a mapping is revoked, until a GUP that is in it has got its page,
 * which may have to wait for the page to be punched out; but never over a fault.  Then
 * hmm->device_vma_lock, vma->lock, page_lock and whatever ->page_free takes.
 */
#ifndef ZD_DRIVERS_DAX_DAX_H
#define ZD_DRIVERS_DAX_DAX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <urcu/list.h>

#include "base/lock.h"
#include "hmm/device_vma.h"
#include "zonedev/dax.h"
#include "zonedev/devm.h"

/*
 * struct zd_dax_config - what is to become a region.
 *
 * @fd, @offset: of the memory; the owner's, open until zd_dax_exit().  @map_flags: for
 * mmap(), instead of MAP_SHARED (say, MAP_SHARED_VALIDATE | MAP_SYNC).
 * @base: where the owner has mapped all of it, or NULL: zd_dax_setup() does.
 * @by_owner: the owner makes pages live.
 * @may_hold: may page @index become live now?  Asked under @page_lock; while the answer is
 * no, zd_dax_get_page() waits.  May be NULL.
 * @page_free: the last reference to @page was put (page lock not held); may be NULL.
 * @destroy: the last step of zd_dax_teardown(): close what is open, free what is held.
 */
struct zd_dax_config {
	enum zd_memory_type type;
	int fd;
	uint64_t offset;
	uint64_t nr_pages;
	uint64_t align;
	int map_flags;
	bool rdonly;
	bool by_owner;
	void *base;
	void *owner;
	bool (*may_hold)(struct zd_dax *dax, uint64_t index);
	void (*page_free)(struct zd_dax *dax, struct zd_page *page);
	void (*destroy)(struct zd_dax *dax);
};

struct zd_dax {
	struct zd_dax_config cfg;
	struct zd_pagemap pgmap;	/* owner: the struct zd_dax */
	zd_pfn_t pfn;			/* of the pagemap; stays when that is gone */
	char *base;
	int empty_fd;			/* a memfd without a byte: its mappings raise SIGBUS */
	struct zd_process process;
	struct zd_mutex page_lock;
	uint64_t *live;			/* not @by_owner: a bit a page */
	struct cds_list_head mappings;	/* mappings_lock */
	bool killed;			/* mappings_lock: no new mappings */
	/* steps.c */
	struct zd_devm own_devm;
	struct zd_devm *devm;		/* has the steps of the end; NULL: the owner takes them */
	uint32_t closing;		/* a thread is in zd_dax_teardown() */
};

static inline uint64_t zd_dax_bytes(const struct zd_dax *dax)
{
	return dax->cfg.nr_pages * ZD_PAGE_SIZE;
}

/* Make @dax, zeroed, a region.  0 or -errno; undone by the four steps below, in
 * this order, each once.  All of them but zd_dax_kill() may block.  Any thread. */
int zd_dax_setup(struct zd_dax *dax, const struct zd_dax_config *cfg);

/* New references and mappings fail.  -EBUSY, -EINVAL as zd_pagemap_kill(). */
int zd_dax_kill(struct zd_dax *dax);
/* The mappings are revoked; the base reference is put. */
void zd_dax_revoke_and_put(struct zd_dax *dax);
/* zd_pagemap_wait() */
int zd_dax_wait(struct zd_dax *dax, int ms, struct zd_pagemap_holders *out);
void zd_dax_exit(struct zd_dax *dax);

/* Register these steps, and cfg.destroy, with @devm, NULL: one of its own.  When that
 * fails (-ENOMEM) the steps have been taken: @dax is gone. */
int zd_dax_add_steps(struct zd_dax *dax, struct zd_devm *devm);
/* True, warned once: the caller is inside a page_free, and mustn't take any of the steps. */
bool zd_dax_in_page_free(void);
/* Take all steps, as zd_dax_close_timeout(); @ms < 0: as zd_dax_close(). */
int zd_dax_teardown(struct zd_dax *dax, int ms, struct zd_pagemap_holders *out);

/* Hold the region itself (zd_put_dev_pagemap()), so that its pages and its memory stay;
 * false: it is being removed, or is gone. */
bool zd_dax_tryget(const struct zd_dax *dax);

/* One more reference to a page of the region, or the first.  0; -ENODEV: the region is being
 * removed; -EINVAL: (@by_owner) the page isn't live.  Waits for a page whose last holder is just
 * letting go, and for @may_hold.  Any thread. */
int zd_dax_get_page(struct zd_dax *dax, struct zd_page *page);

static inline struct zd_page *zd_dax_page(const struct zd_dax *dax, uint64_t index)
{
	return zd_pfn_to_page(dax->pgmap.pfn + index);
}

static inline void *zd_dax_page_addr(const struct zd_dax *dax, const struct zd_page *page)
{
	return dax->base + (zd_page_to_pfn(page) - dax->pgmap.pfn) * ZD_PAGE_SIZE;
}

/* Was the region opened by this process?  False, warned once: the caller is a forked child. */
bool zd_dax_opened_here(const struct zd_dax *dax);

/* zd_page_address(), but NULL for a page of a region that this process, a forked child,
 * doesn't have. */
void *zd_dax_address_of(const struct zd_page *page);

/* An aligned mapping of the region's memory, at @hint if that is free and aligned (NULL: anywhere);
 * MAP_FAILED with errno. */
void *zd_dax_place(const struct zd_dax *dax, void *hint, uint64_t offset, uint64_t len, int prot);

#endif
