/* SPDX-License-Identifier: MIT */
/* The list of a region's bad sectors, for the region's users: zd_pmem_badblocks_*(). */
#include <errno.h>

#include "drivers/media/record.h"
#include "drivers/pmem/pmem.h"

static bool in_media(const struct zd_pmem *pmem, uint64_t sector, uint64_t nr)
{
	uint64_t sectors = pmem->info.media_bytes >> ZD_SECTOR_SHIFT;

	return sector <= sectors && nr <= sectors - sector;
}

int zd_pmem_badblocks_check(struct zd_pmem *pmem, uint64_t sector, uint64_t nr, uint64_t *first_bad,
			    uint64_t *nr_bad)
{
	if (!in_media(pmem, sector, nr))
		return -EINVAL;
	if (zd_pmem_is_gone(pmem))
		return 0;
	return zd_badblocks_check(&pmem->media.bad, sector, nr, first_bad, nr_bad);
}

/* What was changed is to be in the record of the region, too.  Blocks. */
static int record_change(struct zd_pmem *pmem, int rc)
{
	if (!rc)
		zd_media_record(&pmem->media, ZD_RECORD_ALL);
	return rc;
}

int zd_pmem_badblocks_set(struct zd_pmem *pmem, uint64_t sector, uint64_t nr)
{
	if (!in_media(pmem, sector, nr))
		return -EINVAL;
	if (zd_pmem_is_gone(pmem))
		return -ENODEV;
	return record_change(pmem, zd_badblocks_set(&pmem->media.bad, sector, nr));
}

int zd_pmem_badblocks_clear(struct zd_pmem *pmem, uint64_t sector, uint64_t nr)
{
	if (!in_media(pmem, sector, nr))
		return -EINVAL;
	if (zd_pmem_is_gone(pmem))
		return -ENODEV;
	return record_change(pmem, zd_badblocks_clear(&pmem->media.bad, sector, nr, ZD_BAD_ALWAYS));
}
