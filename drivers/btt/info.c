/* SPDX-License-Identifier: MIT */
/* A BTT's info blocks, and where everything of it is. */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/btt/entry.h"
#include "drivers/btt/info.h"
#include "drivers/explain.h"

#define MIN_LANES	16u
#define BLOCKS_PER_LANE	64u	/* a small region has fewer lanes */

#define ALIGN_UP(n)	(((n) + ZD_PAGE_SIZE - 1) & ZD_PAGE_MASK)

static const char magic[16] = ZD_BTT_MAGIC;
static const uint32_t block_sizes[] = { 4096, 512 };

/* --- where --- */

int zd_btt_set_places(struct zd_btt_info_block *info)
{
	uint64_t bytes = info->media_bytes, block = info->block, room, flog, end;
	uint64_t lanes = bytes / block / BLOCKS_PER_LANE, per_block, fixed;

	if (bytes < ZD_BTT_MIN_BYTES)
		return -EINVAL;
	lanes = lanes < MIN_LANES ? MIN_LANES : lanes > ZD_BTT_MAX_LANES ? ZD_BTT_MAX_LANES : lanes;
	flog = 4 * ALIGN_UP(lanes * sizeof(struct zd_btt_slot));
	per_block = sizeof(uint64_t) + sizeof(struct zd_btt_owner);
	/* rounding, of each area; the sums, two thousandths of the tables and the flog */
	fixed = ZD_BTT_NR_INFOS * ZD_BTT_INFO_BYTES + flog + 9 * ZD_PAGE_SIZE +
		lanes * (block + sizeof(struct zd_btt_owner));
	room = bytes - fixed;
	room -= room / block * per_block / 500;
	info->nr_blocks = room / (block + per_block);
	/* a whole number of pages in any case */
	info->nr_blocks &= ~(ZD_PAGE_SIZE / block - 1);
	if (info->nr_blocks + lanes >= ZD_BTT_BLOCK_MASK)
		return -EINVAL;
	info->nr_lanes = lanes;
	info->data_off = ZD_BTT_INFO_BYTES;
	info->info_off[0] = 0;
	info->info_off[1] = info->data_off + ALIGN_UP((info->nr_blocks + lanes) * block);
	info->info_off[2] = bytes - ZD_BTT_INFO_BYTES;
	info->map_off = info->info_off[1] + ZD_BTT_INFO_BYTES;
	info->owner_off = info->map_off + ALIGN_UP(info->nr_blocks * sizeof(uint64_t));
	info->flog_off = info->owner_off +
			 ALIGN_UP((info->nr_blocks + lanes) * sizeof(struct zd_btt_owner));
	info->sums_off = info->flog_off + flog;
	end = info->sums_off + ZD_BTT_SUMS_COPIES * ALIGN_UP((info->sums_off - info->map_off) /
							     ZD_PAGE_SIZE * sizeof(uint32_t));
	return end <= info->info_off[2] ? 0 : -EINVAL;
}

/* --- info blocks --- */

static bool has_magic(const struct zd_btt_info_block *info)
{
	return !memcmp(info->magic, magic, sizeof(magic));
}

static bool is_whole(const struct zd_btt_info_block *info)
{
	return has_magic(info) && info->checksum == zd_btt_info_sum(info);
}

/* A valid info block is of this version, and has the places that zd_btt_set_places() sets. */
static bool is_valid(const struct zd_btt_info_block *info, uint64_t media_bytes)
{
	struct zd_btt_info_block want = *info;

	if (!is_whole(info) || info->version != ZD_BTT_VERSION ||
	    info->media_bytes != media_bytes || (info->block != 512 && info->block != 4096))
		return false;
	return !zd_btt_set_places(&want) && !memcmp(&want, info, sizeof(want));
}

static void read_info(struct zd_media *m, struct zd_btt_infos *infos, uint32_t k, uint64_t off)
{
	infos->rc[k] = zd_media_get(m, off, &infos->b[k], sizeof(infos->b[k]));
	infos->valid[k] = !infos->rc[k] && is_valid(&infos->b[k], m->bytes) &&
			  infos->b[k].info_off[k] == off;
	if (infos->rc[k])
		memset(&infos->b[k], 0, sizeof(infos->b[k]));
}

/* The info block in the middle: where it is depends on the size of blocks. */
static void read_middle(struct zd_media *m, struct zd_btt_infos *infos)
{
	for (uint32_t i = 0; i < 2 && !infos->valid[1]; i++) {
		struct zd_btt_info_block where = { .media_bytes = m->bytes,
						   .block = block_sizes[i] };

		if (!zd_btt_set_places(&where))
			read_info(m, infos, 1, where.info_off[1]);
	}
}

/* An older info block is usual, unless the region was closed: then it is one that came back. */
static bool is_broken(const struct zd_btt_infos *infos, uint32_t k)
{
	const struct zd_btt_info_block *best = &infos->b[infos->best];

	return !infos->valid[k] || (best->closed && infos->b[k].serial != best->serial);
}

/* The thread that opens or checks the region; blocks. */
void zd_btt_read_infos(struct zd_media *m, struct zd_btt_infos *infos)
{
	memset(infos, 0, sizeof(*infos));
	read_info(m, infos, 0, 0);
	read_middle(m, infos);
	read_info(m, infos, 2, m->bytes - ZD_BTT_INFO_BYTES);
	infos->best = -1;
	for (int k = 0; k < (int)ZD_BTT_NR_INFOS; k++)
		if (infos->valid[k] &&
		    (infos->best < 0 || infos->b[k].serial > infos->b[infos->best].serial))
			infos->best = k;
	infos->unfinished = infos->best < 0 && !infos->rc[0] && is_whole(&infos->b[0]) &&
			    infos->b[0].version == ZD_BTT_UNFINISHED;
	for (uint32_t k = 0; k < ZD_BTT_NR_INFOS && infos->best >= 0; k++)
		infos->nr_broken += is_broken(infos, k);
}

/* Any context. */
int zd_btt_explain_infos(struct zd_media *m, const struct zd_btt_infos *infos, char *err,
			 size_t errlen)
{
	for (uint32_t k = 0; k < ZD_BTT_NR_INFOS; k++) {
		const struct zd_btt_info_block *info = &infos->b[k];

		if (has_magic(info) && info->version && info->version < ZD_BTT_VERSION)
			return zd_explain(
				err, errlen, -EUCLEAN,
				"its BTT has layout %u, and this zonedev knows %u: copy its content with the zonedev that made it, into a new file",
				info->version, ZD_BTT_VERSION);
		if (is_whole(info) && info->version != ZD_BTT_UNFINISHED &&
		    info->version > ZD_BTT_VERSION)
			return zd_explain(
				err, errlen, -EUCLEAN,
				"its BTT has layout %u, and this zonedev knows %u: use a newer one",
				info->version, ZD_BTT_VERSION);
		if (is_whole(info) && info->media_bytes != m->bytes)
			return zd_explain(
				err, errlen, -EUCLEAN,
				"its BTT was made for %llu bytes, and it has %llu: give it that size again",
				(unsigned long long)info->media_bytes,
				(unsigned long long)m->bytes);
	}
	return zd_explain(err, errlen, -EUCLEAN,
			  "all three descriptions of its BTT are broken: restore it from a copy");
}

int zd_btt_probe(struct zd_media *m)
{
	struct zd_btt_infos *infos;
	int rc = 0;

	if (m->bytes < ZD_BTT_MIN_BYTES)
		return 0;
	infos = zd_alloc(sizeof(*infos));
	if (!infos)
		return -ENOMEM;
	zd_btt_read_infos(m, infos);
	for (uint32_t k = 0; k < ZD_BTT_NR_INFOS; k++)
		rc |= has_magic(&infos->b[k]);
	zd_free(infos);
	return rc;
}

static int put_info(struct zd_media *m, struct zd_btt_info_block *info, uint32_t k)
{
	int rc;

	info->checksum = zd_btt_info_sum(info);
	rc = zd_media_put(m, info->info_off[k], info, sizeof(*info));
	return rc ? rc : zd_media_sync(m);
}

/* One after the other, each durable before the next: at any time one is whole. */
int zd_btt_put_infos(struct zd_btt *btt)
{
	int rc = 0;

	btt->info.serial++;
	for (uint32_t k = ZD_BTT_NR_INFOS; k-- && !rc;)
		rc = put_info(btt->m, &btt->info, k);
	return rc;
}
