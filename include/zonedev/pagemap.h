/* SPDX-License-Identifier: MIT */
/*
 * zonedev/pagemap.h - ranges of pages that come and go: struct dev_pagemap in
 * user space.
 *
 * A pagemap is a range of pfns with one owner and one type.  Mapping it costs
 * no memory and no loop over its pages: descriptors are committed as they are
 * first touched.  Unmapping waits until none of its pages is held: removal
 * never forces.
 *
 * After fork a child has its parent's pagemaps, as its memory has their pages, and may map
 * others.  References that the parent's other threads held stay held in it for ever, and
 * what another thread was unmapping stays -EBUSY.
 */
#ifndef ZONEDEV_PAGEMAP_H
#define ZONEDEV_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>
#include <zonedev/page.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Numbered as in Linux, which has no SYSTEM.  0, what a forgotten type is, is none; nor
 * is 2 (Linux: DEVICE_COHERENT). */
enum zd_memory_type {
	ZD_MEMORY_DEVICE_PRIVATE = 1,	/* the CPU can't address it */
	ZD_MEMORY_FS_DAX = 3,		/* file pages, mapped directly */
	ZD_MEMORY_GENERIC = 4,		/* device-dax */
	ZD_MEMORY_P2PDMA = 5,		/* a device's memory for other devices */
	ZD_MEMORY_SYSTEM = 6,		/* RAM of a managed range */
};

struct zd_pagemap;

/*
 * struct zd_pagemap_ops - all optional, but DEVICE_PRIVATE needs page_free.
 *
 * @size: sizeof(struct zd_pagemap_ops) as the owner was compiled; the struct
 *	only grows, at the end, and what a shorter one lacks is NULL.
 * @page_free: the last reference was put and the page is the owner's again.
 *	zd_page_pagemap() still works.  Called in the thread that put the
 *	reference, at the same time for different pages; must not block, and so
 *	must not remove a pagemap or a device (-EDEADLK).
 * @revoke: called once by the unmap that starts the removal, when new
 *	references have begun to fail and before it waits: make those that hold
 *	pages let go (unmap them, bring them home).  May block.  0, or -errno
 *	to call the removal off: the pagemap is then live as before.
 */
struct zd_pagemap_ops {
	size_t size;
	void (*page_free)(struct zd_page *page);
	int (*revoke)(struct zd_pagemap *pgmap);
};

struct zd_pagemap_priv;

/*
 * struct zd_pagemap - zero it, set @type, @nr_pages and, as wanted, @ops and
 * @owner; zd_memremap_pages() sets @pfn, the first page.  The memory is the
 * caller's; it must stay until zd_memunmap_pages() has succeeded.  Its size is fixed
 * for ever: drivers embed it.
 */
struct zd_pagemap {
	enum zd_memory_type type;
	const struct zd_pagemap_ops *ops;
	void *owner;			/* whose device-private pages these are */
	uint64_t nr_pages;
	zd_pfn_t pfn;
	struct zd_pagemap_priv *priv;	/* zonedev's; NULL: not mapped */
	uint64_t reserved_;
};

/*
 * zd_memremap_pages - give @pgmap a range of pfns and make it live.  Mirrors
 * Linux memremap_pages().
 *
 * The range starts at a multiple of 512 pages and its descriptors read as
 * zero.  Takes microseconds, whatever the size (16 TiB: < 1 ms, < 1 MiB).
 *
 * Returns 0; -EINVAL, with a warning (once): no or a bad type, bad ops, no pages, or
 * mapped already; -ENOSPC: no free range of pfns of that size (2^36 in all, fewer where the
 * address space is limited), or more than 4095 pagemaps; -ENOMEM.
 * Context: may block, fork-safe.
 */
int zd_memremap_pages(struct zd_pagemap *pgmap);

/*
 * zd_memunmap_pages - take the range away.  Mirrors Linux memunmap_pages().
 *
 * In this order: new references fail (kill), ops->revoke, the base reference
 * is put, wait until the last holder lets go, a grace period for lookups, the
 * reference's memory is freed, the descriptors are freed (all of them zero
 * again).  When it returns 0 no page_free is running or will run.
 *
 * Warns once in the log when it has waited for 10 s, naming holders; where
 * references are recorded (zonedev/page_owner.h), the code that took them, too.
 *
 * Returns 0; -EINVAL if it isn't mapped (@pgmap is then only compared, so that a
 * second call is harmless even when its memory is gone); -EBUSY if another
 * thread is unmapping it; what ops->revoke returned; -EDEADLK, with a warning
 * (once): from inside a page_free, of whatever pagemap, or from inside its own
 * revoke.  (A revoke may unmap other pagemaps.)
 * Context: may block, fork-safe; not with a reference to one of its pages (that waits
 * forever).
 */
int zd_memunmap_pages(struct zd_pagemap *pgmap);

#define ZD_PAGEMAP_HOLDER_PFNS 16

/*
 * struct zd_pagemap_holders - what an unmap that timed out waits for.
 *
 * @nr_pages: live pages, also those whose page_free is running.  @nr_refs: holds
 * that aren't pages (zd_get_dev_pagemap(), and each batch of pages on its way to
 * a device).  @pfns: the first @nr_pfns live pages, ascending.  All zero when the call
 * did not time out.  Grows at the end: see zonedev.h, "Binary interface".
 */
struct zd_pagemap_holders {
	uint64_t nr_pages;
	uint64_t nr_refs;
	unsigned int nr_pfns;
	zd_pfn_t pfns[ZD_PAGEMAP_HOLDER_PFNS];
};

/*
 * zd_memunmap_pages_timeout - the same, waiting at most @ms milliseconds for
 * the holders (less what revoke took of it).
 *
 * -ETIMEDOUT: the range stays usable for its holders, new references
 * fail with -ENODEV, and @out (if not NULL) says what is held.  Call either
 * form again to go on waiting; revoke isn't called again.  Where references are
 * recorded, the log says what code took those that it waits for.
 * Context: may block, fork-safe.
 */
int zd_memunmap_pages_timeout_sized(struct zd_pagemap *pgmap, unsigned int ms,
				    struct zd_pagemap_holders *out, size_t size);

static inline int zd_memunmap_pages_timeout(struct zd_pagemap *pgmap, unsigned int ms,
					    struct zd_pagemap_holders *out)
{
	return zd_memunmap_pages_timeout_sized(pgmap, ms, out, sizeof(*out));
}

/*
 * zd_get_dev_pagemap - the live pagemap that @pfn belongs to, held; NULL if
 * there is none, or if it is being unmapped.  Mirrors Linux
 * get_dev_pagemap(pfn, NULL).
 *
 * zd_put_dev_pagemap - drop that hold.
 * Context of both: any thread, fork-safe.
 */
struct zd_pagemap *zd_get_dev_pagemap(zd_pfn_t pfn);
void zd_put_dev_pagemap(struct zd_pagemap *pgmap);

/*
 * zd_pagemap_live_pages - how many pages of @pgmap are live (a snapshot); 0 when @pgmap
 * isn't mapped.  A page counts until its page_free has returned.
 * Context: any thread, fork-safe; not while @pgmap is being mapped or unmapped for good.
 */
uint64_t zd_pagemap_live_pages(const struct zd_pagemap *pgmap);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#ifdef ZD_PAGE_OWNER
/* The same functions, which note the line that calls them: zonedev/page_owner.h. */
#define zd_get_dev_pagemap(number) __extension__ ({				\
	struct zd_pagemap *zd_m_ = (zd_get_dev_pagemap)(number);		\
										\
	if (zd_m_)								\
		ZD_PAGE_OWNER_TOOK_(zd_m_->pfn, 0);				\
	zd_m_;									\
})

#define zd_put_dev_pagemap(pgmap) __extension__ ({				\
	struct zd_pagemap *zd_m_ = (pgmap);					\
										\
	ZD_PAGE_OWNER_DROPS_(zd_m_->pfn, 0);					\
	(zd_put_dev_pagemap)(zd_m_);						\
	(void)0;								\
})
#endif
#endif
