/* SPDX-License-Identifier: MIT */
/* The region: its pagemap, its own mapping, and which of its pages are live; see dax.h. */
#include "drivers/dax/dax.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault_guard.h"
#include "drivers/empty_file.h"
#include "pages/pagemap.h"
#include "zonedev/gup.h"
#include "zonedev/log.h"

static void dax_page_free(struct zd_page *page)
{
	struct zd_dax *dax = zd_page_pagemap(page)->owner;
	uint64_t index = zd_page_to_pfn(page) - dax->pgmap.pfn;

	if (dax->live) {
		zd_mutex_lock(&dax->page_lock);
		dax->live[index / 64] &= ~(UINT64_C(1) << (index % 64));
		zd_mutex_unlock(&dax->page_lock);
	}
	if (dax->cfg.page_free)
		dax->cfg.page_free(dax, page);
}

static const struct zd_pagemap_ops dax_pagemap_ops = {
	.size = sizeof(dax_pagemap_ops),
	.page_free = dax_page_free,
};

bool zd_dax_opened_here(const struct zd_dax *dax)
{
	if (zd_is_this_process(&dax->process))
		return true;
	zd_warn_once("a region belongs to the process that opened it, not to its children");
	return false;
}

void *zd_dax_address_of(const struct zd_page *page)
{
	const struct zd_pagemap *pgmap = zd_page_pagemap(page);

	if (pgmap && pgmap->ops == &dax_pagemap_ops && !zd_dax_opened_here(pgmap->owner))
		return NULL;
	return zd_page_address(page);
}

/* False: the page can't be had yet: its last putter is still on its way to page_free, or the
 * owner says no. */
static bool try_get_page(struct zd_dax *dax, struct zd_page *page, int *rc)
{
	uint64_t index = zd_page_to_pfn(page) - dax->pgmap.pfn;
	uint64_t bit = UINT64_C(1) << (index % 64);
	bool done = true;

	*rc = 0;
	zd_mutex_lock(&dax->page_lock);
	if (dax->live[index / 64] & bit) {
		done = zd_try_get_page(page);
	} else if (dax->cfg.may_hold && !dax->cfg.may_hold(dax, index)) {
		done = false;
	} else {
		*rc = zd_page_init(page);
		if (!*rc) {
			page->word = (uintptr_t)zd_dax_page_addr(dax, page);
			dax->live[index / 64] |= bit;
		}
	}
	zd_mutex_unlock(&dax->page_lock);
	return done;
}

bool zd_dax_tryget(const struct zd_dax *dax)
{
	struct zd_pagemap *pgmap = zd_get_dev_pagemap(dax->pfn);

	if (pgmap == &dax->pgmap)
		return true;
	/* the region is gone, and its pfns are another pagemap's */
	if (pgmap)
		zd_put_dev_pagemap(pgmap);
	return false;
}

int zd_dax_get_page(struct zd_dax *dax, struct zd_page *page)
{
	int rc;

	if (!dax->live)
		return zd_try_get_page(page) ? 0 : -EINVAL;
	while (!try_get_page(dax, page, &rc))
		sched_yield();
	return rc;
}

static int map_base(struct zd_dax *dax)
{
	int prot = dax->cfg.rdonly ? PROT_READ : PROT_READ | PROT_WRITE;

	dax->base = dax->cfg.base;
	if (dax->base)
		return 0;
	dax->base = zd_dax_place(dax, NULL, 0, zd_dax_bytes(dax), prot);
	if (dax->base == MAP_FAILED)
		return -errno;
	/* A forked child with this mapping could use a region that is gone.  And a core dump has
	 * the memory by the program's own mappings. */
	madvise(dax->base, zd_dax_bytes(dax), MADV_DONTFORK);
	madvise(dax->base, zd_dax_bytes(dax), MADV_DONTDUMP);
	return 0;
}

static void unmap_base(struct zd_dax *dax)
{
	if (!dax->cfg.base)
		munmap(dax->base, zd_dax_bytes(dax));
}

static size_t live_bytes(const struct zd_dax *dax)
{
	return (dax->cfg.nr_pages + 63) / 64 * sizeof(*dax->live);
}

int zd_dax_setup(struct zd_dax *dax, const struct zd_dax_config *cfg)
{
	int rc = zd_fault_guard_init();

	if (rc)
		return rc;
	dax->cfg = *cfg;
	dax->process = zd_this_process();
	CDS_INIT_LIST_HEAD(&dax->mappings);
	dax->empty_fd = zd_make_empty_file();
	if (dax->empty_fd < 0)
		return dax->empty_fd;
	rc = map_base(dax);
	if (rc)
		goto err_empty;
	if (!cfg->by_owner) {
		rc = -ENOMEM;
		dax->live = zd_reserve(live_bytes(dax));
		if (!dax->live)
			goto err_base;
	}
	dax->pgmap.type = cfg->type;
	dax->pgmap.ops = &dax_pagemap_ops;
	dax->pgmap.owner = dax;
	dax->pgmap.nr_pages = cfg->nr_pages;
	rc = zd_memremap_pages(&dax->pgmap);
	if (rc)
		goto err_live;
	dax->pfn = dax->pgmap.pfn;
	return 0;

err_live:
	if (dax->live)
		zd_unreserve(dax->live, live_bytes(dax));
err_base:
	unmap_base(dax);
err_empty:
	close(dax->empty_fd);
	return rc;
}

int zd_dax_wait(struct zd_dax *dax, int ms, struct zd_pagemap_holders *out)
{
	return zd_pagemap_wait(&dax->pgmap, ms, out);
}

void zd_dax_exit(struct zd_dax *dax)
{
	zd_pagemap_exit(&dax->pgmap);
	if (dax->live)
		zd_unreserve(dax->live, live_bytes(dax));
	unmap_base(dax);
	close(dax->empty_fd);
}

uint64_t zd_dax_size(const struct zd_dax *dax)
{
	return zd_dax_bytes(dax);
}

uint64_t zd_dax_align(const struct zd_dax *dax)
{
	return dax->cfg.align;
}

const struct zd_pagemap *zd_dax_pagemap(const struct zd_dax *dax)
{
	return &dax->pgmap;
}

/* How many of the pages were got, > 0, or -errno.  Called with the region held. */
static long get_pages(struct zd_dax *dax, uint64_t pgoff, long nr_pages)
{
	for (long nr = 0; nr < nr_pages; nr++) {
		int rc = zd_dax_get_page(dax, zd_dax_page(dax, pgoff + nr));

		if (rc)
			return nr ? nr : rc;
	}
	return nr_pages;
}

long zd_dax_direct_access(struct zd_dax *dax, uint64_t pgoff, long nr_pages, void **kaddr,
			  zd_pfn_t *pfn)
{
	long nr;

	if (!dax || nr_pages <= 0 || !zd_dax_opened_here(dax))
		return -EINVAL;
	if (pgoff >= dax->cfg.nr_pages)
		return -ERANGE;
	if ((uint64_t)nr_pages > dax->cfg.nr_pages - pgoff)
		nr_pages = dax->cfg.nr_pages - pgoff;
	if (!zd_dax_tryget(dax))
		return -ENODEV;
	nr = get_pages(dax, pgoff, nr_pages);
	if (nr > 0 && kaddr)
		*kaddr = dax->base + pgoff * ZD_PAGE_SIZE;
	if (nr > 0 && pfn)
		*pfn = dax->pfn + pgoff;
	zd_put_dev_pagemap(&dax->pgmap);
	return nr;
}
