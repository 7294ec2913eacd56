/* SPDX-License-Identifier: MIT */
/*
 * The region by address: pages held where they are mapped, and made durable.
 */
#include <errno.h>

#include "drivers/media/record.h"
#include "drivers/pmem/pmem.h"
#include "pages/pagemap.h"
#include "pages/pfn_range.h"

/* How many of the pages can be had: up to the region's end, the file's end, a bad block. */
static long good_pages(struct zd_pmem *pmem, uint64_t pgoff, long nr)
{
	uint64_t first = pgoff * ZD_PAGE_SECTORS, bad;
	struct zd_media *m = &pmem->media;

	if ((uint64_t)nr > m->bytes / ZD_PAGE_SIZE - pgoff)
		nr = m->bytes / ZD_PAGE_SIZE - pgoff;
	/* this adds what lies beyond the file's end to the bad blocks */
	zd_media_check_end(m, pgoff * ZD_PAGE_SIZE, nr * ZD_PAGE_SIZE, &bad);
	if (zd_badblocks_check(&m->bad, first, nr * ZD_PAGE_SECTORS, &bad, NULL))
		nr = (bad - first) / ZD_PAGE_SECTORS;
	return nr;
}

/* Any thread; takes dax->page_lock, and waits while a hole is punched. */
long zd_pmem_direct_access(struct zd_pmem *pmem, uint64_t pgoff, long nr_pages, void **kaddr,
			   zd_pfn_t *pfn)
{
	long nr = -ENODEV;

	if (nr_pages <= 0)
		return -EINVAL;
	if (pmem->info.flags & ZD_PMEM_BTT)
		return -EOPNOTSUPP;
	if (pgoff >= pmem->info.media_bytes / ZD_PAGE_SIZE)
		return -ERANGE;
	if (!zd_dax_tryget(&pmem->dax))
		return nr;
	nr = good_pages(pmem, pgoff, nr_pages);
	if (!nr)
		zd_media_record(&pmem->media, ZD_RECORD_LOST);
	nr = nr ? zd_dax_direct_access(&pmem->dax, pgoff, nr, kaddr, pfn) : -EIO;
	zd_put_dev_pagemap(&pmem->dax.pgmap);
	return nr;
}

void zd_pmem_direct_release(struct zd_pmem *pmem, zd_pfn_t pfn, long nr_pages)
{
	(void)pmem;
	for (long i = 0; i < nr_pages; i++)
		zd_put_page(zd_pfn_to_page(pfn + i));
}

/* The region is held.  Blocks. */
static int persist(struct zd_media *m, uint64_t offset, uint64_t len)
{
	uint64_t bad;
	int rc;

	if (offset > m->bytes || len > m->bytes - offset)
		return -EINVAL;
	rc = zd_media_flush(m, offset, len);
	if (!rc && len)
		rc = zd_media_sync_range(m, offset, len);
	/* also after a flush that failed: the truncation may be why */
	if (zd_media_check_end(m, offset, len, &bad))
		rc = -EIO;
	zd_media_record(m, rc ? ZD_RECORD_LOST : ZD_RECORD_ALL);
	return rc;
}

/* Hold the pagemap, also of a region that is being removed, as long as any page of it is held:
 * the holder of a page wants what it has stored there to be durable.  NULL: gone. */
static struct zd_pagemap_priv *hold_dying(struct zd_pmem *pmem)
{
	struct zd_pagemap_priv *s = zd_pagemap_tryget_dying(pmem->dax.pfn);

	if (!s || s->pgmap == &pmem->dax.pgmap)
		return s;
	zd_percpu_ref_put(&s->ref);
	return NULL;
}

int zd_pmem_persist_range(struct zd_pmem *pmem, uint64_t offset, uint64_t len)
{
	struct zd_pagemap_priv *s = hold_dying(pmem);
	int rc;

	if (!s)
		return -ENODEV;
	rc = persist(&pmem->media, offset, len);
	zd_percpu_ref_put(&s->ref);
	return rc;
}

int zd_pmem_persist(struct zd_pmem *pmem, const void *addr, size_t len)
{
	struct zd_pagemap_priv *s = hold_dying(pmem);
	int rc;

	if (!s)
		return -ENODEV;
	rc = persist(&pmem->media, (uintptr_t)addr - (uintptr_t)pmem->media.base, len);
	zd_percpu_ref_put(&s->ref);
	return rc;
}

struct zd_dax *zd_pmem_dax(struct zd_pmem *pmem)
{
	return pmem->info.flags & ZD_PMEM_BTT ? NULL : &pmem->dax;
}

int zd_pmem_inject_poison(struct zd_pmem *pmem, uint64_t sector, uint64_t nr)
{
	uint64_t end = sector + nr, sectors = pmem->info.media_bytes >> ZD_SECTOR_SHIFT;
	uint64_t first = sector / ZD_PAGE_SECTORS;
	int rc;

	if (!nr || sector > sectors || nr > sectors - sector)
		return -EINVAL;
	rc = zd_pmem_queue_enter(pmem, 0);
	if (rc)
		return rc;
	rc = zd_media_inject_poison(&pmem->media, first,
				    (end + ZD_PAGE_SECTORS - 1) / ZD_PAGE_SECTORS - first);
	zd_pmem_queue_exit(pmem);
	return rc;
}
