/* SPDX-License-Identifier: MIT */
/*
 * What a region that is opened once more takes over from the removed one.
 *
 * The region's users must find what they left.  So only the same file will do: a new file, or
 * one that was put in its place, has other data, or zeros.  And what was known to be lost stays
 * lost: a new handle by itself would know neither the bad blocks of the old one, nor that the
 * kernel couldn't write something back, which the kernel tells only once.
 */
#include <errno.h>
#include <string.h>

#include "drivers/media/record.h"
#include "drivers/pmem/pmem.h"
#include "zonedev/log.h"

bool zd_pmem_is_same(const struct zd_pmem *pmem, const struct zd_pmem *removed)
{
	return zd_media_is_same_file(&pmem->media, &removed->media) &&
	       !memcmp(pmem->btt_uuid, removed->btt_uuid, sizeof(pmem->btt_uuid));
}

/* The list of the removed region stays until its handle is closed. */
int zd_pmem_inherit(struct zd_pmem *pmem, const struct zd_pmem *removed)
{
	const struct zd_badblocks *bad = &removed->media.bad;
	int rc = 0;

	for (uint32_t i = 0; i < bad->nr && !rc; i++)
		rc = zd_badblocks_set(&pmem->media.bad, bad->ranges[i].first,
				      bad->ranges[i].end - bad->ranges[i].first);
	zd_media_record(&pmem->media, ZD_RECORD_ALL);
	if (!removed->media.sync.error)
		return rc;
	pmem->media.sync.error = removed->media.sync.error;
	zd_log(ZD_LOG_WARN,
	       "pmem: %s: what was written before it was removed isn't all durable: flushes go on failing until it is opened anew",
	       pmem->path);
	return rc;
}
