/* SPDX-License-Identifier: MIT */
/* The struct zd_btt.  See btt.h. */
#include "drivers/btt/btt.h"

#include "base/alloc.h"
#include "drivers/btt/entry.h"

/* The thread that opens or checks the region. */
struct zd_btt *zd_btt_alloc(struct zd_media *m, const struct zd_btt_info_block *info)
{
	struct zd_btt *btt = zd_alloc(sizeof(*btt));

	if (!btt)
		return NULL;
	btt->m = m;
	btt->info = *info;
	btt->block = info->block;
	btt->nr_blocks = info->nr_blocks;
	btt->nr_lanes = info->nr_lanes;
	btt->seed = zd_btt_seed(info->uuid);
	btt->lanes = zd_alloc(btt->nr_lanes * sizeof(btt->lanes[0]));
	btt->ring = zd_alloc(btt->nr_lanes * sizeof(btt->ring[0]));
	if (btt->lanes && btt->ring) {
		for (uint32_t i = 0; i < btt->nr_lanes; i++)
			btt->ring[i] = i;
		btt->ring_nr = btt->nr_lanes;
		return btt;
	}
	zd_btt_free(btt);
	return NULL;
}

/* No other thread uses it. */
void zd_btt_free(struct zd_btt *btt)
{
	zd_free(btt->ring);
	zd_free(btt->lanes);
	zd_free(btt);
}
