/* SPDX-License-Identifier: MIT */
/*
 * Where everything of a BTT is, its info blocks, and how it comes to be.  See btt.h.
 *
 * Laying out: the first info block says that it is being laid out; then the tables; then the
 * other info blocks; then the first; each durable before the next.  So where a valid info
 * block is, all else is; and where only that first one is, nothing was ever written.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "drivers/btt/btt.h"
#include "drivers/explain.h"
#include "zonedev/log.h"

#define DEFAULT_BLOCK	4096u
#define MIN_LANES	16u
#define BLOCKS_PER_LANE	64u	/* a small region has fewer lanes */
#define CHUNK		65536u

#define ALIGN_UP(n)	(((n) + ZD_PAGE_SIZE - 1) & ZD_PAGE_MASK)

static const char magic[16] = ZD_BTT_MAGIC;
static const uint32_t block_sizes[] = { 4096, 512 };

/* --- where --- */

/* Of so many bytes.  -EINVAL: too few, or too many. */
static int compute(struct zd_btt_info_block *info)
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
	end = info->sums_off + ZD_BTT_SUMS_COPIES *
	      ALIGN_UP((info->sums_off - info->map_off) / ZD_PAGE_SIZE * sizeof(uint32_t));
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

/* A valid one describes what compute() would, of this version. */
static bool is_valid(const struct zd_btt_info_block *info, uint64_t media_bytes)
{
	struct zd_btt_info_block want = *info;

	if (!is_whole(info) || info->version != ZD_BTT_VERSION ||
	    info->media_bytes != media_bytes || (info->block != 512 && info->block != 4096))
		return false;
	return !compute(&want) && !memcmp(&want, info, sizeof(want));
}

static void read_info(struct zd_media *m, struct zd_btt_infos *infos, uint32_t k, uint64_t off)
{
	infos->rc[k] = zd_media_get(m, off, &infos->b[k], sizeof(infos->b[k]));
	infos->valid[k] = !infos->rc[k] && is_valid(&infos->b[k], m->bytes) &&
			  infos->b[k].info_off[k] == off;
	if (infos->rc[k])
		memset(&infos->b[k], 0, sizeof(infos->b[k]));
}

/* The one in the middle: where depends on the size of blocks. */
static void read_middle(struct zd_media *m, struct zd_btt_infos *infos)
{
	for (uint32_t i = 0; i < 2 && !infos->valid[1]; i++) {
		struct zd_btt_info_block where = { .media_bytes = m->bytes, .block = block_sizes[i] };

		if (!compute(&where))
			read_info(m, infos, 1, where.info_off[1]);
	}
}

/* An older one is usual, unless the region was closed: then it has come back. */
static bool is_broken(const struct zd_btt_infos *infos, uint32_t k)
{
	const struct zd_btt_info_block *best = &infos->b[infos->best];

	return !infos->valid[k] || (best->closed && infos->b[k].serial != best->serial);
}

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

int zd_btt_explain_infos(struct zd_media *m, const struct zd_btt_infos *infos, char *err,
			 size_t errlen)
{
	for (uint32_t k = 0; k < ZD_BTT_NR_INFOS; k++) {
		const struct zd_btt_info_block *info = &infos->b[k];

		if (has_magic(info) && info->version && info->version < ZD_BTT_VERSION)
			return zd_explain(err, errlen, -EUCLEAN,
					    "its BTT has layout %u, and this zonedev knows %u: copy its content with the zonedev that made it, into a new file",
					    info->version, ZD_BTT_VERSION);
		if (is_whole(info) && info->version != ZD_BTT_UNFINISHED &&
		    info->version > ZD_BTT_VERSION)
			return zd_explain(err, errlen, -EUCLEAN,
					    "its BTT has layout %u, and this zonedev knows %u: use a newer one",
					    info->version, ZD_BTT_VERSION);
		if (is_whole(info) && info->media_bytes != m->bytes)
			return zd_explain(err, errlen, -EUCLEAN,
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

/* One is whole at any time. */
int zd_btt_put_infos(struct zd_btt *btt)
{
	int rc = 0;

	btt->info.serial++;
	for (uint32_t k = ZD_BTT_NR_INFOS; k-- && !rc;)
		rc = put_info(btt->m, &btt->info, k);
	return rc;
}

/* --- laying out --- */

struct filler {
	struct zd_btt *btt;
	char buf[CHUNK];
	uint64_t off;			/* where the buffer goes */
	size_t used;
};

static int flush(struct filler *f)
{
	int rc = f->used ? zd_media_put(f->btt->m, f->off, f->buf, f->used) : 0;

	f->off += f->used;
	f->used = 0;
	return rc;
}

static int add(struct filler *f, const void *data, size_t len)
{
	int rc = f->used + len > sizeof(f->buf) ? flush(f) : 0;

	memcpy(f->buf + f->used, data, len);
	f->used += len;
	return rc;
}

/* Block i is in data block i, and reads as zeros. */
static int fill_map(struct filler *f)
{
	struct zd_btt *btt = f->btt;
	int rc = 0;

	f->off = btt->info.map_off;
	for (uint64_t b = 0; b < btt->nr_blocks && !rc; b++) {
		uint64_t entry = zd_btt_kind_entry(btt, b, b, ZD_BTT_ZERO, 0);

		rc = add(f, &entry, sizeof(entry));
	}
	return rc ? rc : flush(f);
}

static int fill_owners(struct filler *f)
{
	struct zd_btt *btt = f->btt;
	int rc = 0;

	f->off = btt->info.owner_off;
	for (uint64_t d = 0; d < zd_btt_nr_data(btt) && !rc; d++) {
		uint32_t block = d < btt->nr_blocks ? d : ZD_BTT_NO_BLOCK;
		struct zd_btt_owner o = zd_btt_make_owner(btt, d, block, 0, ZD_BTT_ZERO, 0);

		rc = add(f, &o, sizeof(o));
	}
	return rc ? rc : flush(f);
}

static int fill_flog(struct filler *f, uint32_t half, uint32_t copy)
{
	struct zd_btt *btt = f->btt;
	int rc = 0;

	f->off = zd_btt_slot_off(btt, 0, half, copy);
	for (uint32_t i = 0; i < btt->nr_lanes && !rc; i++) {
		struct zd_btt_slot s = zd_btt_blank_slot(btt->nr_blocks + i, 0, 0);

		s.checksum = zd_btt_slot_sum(btt, &s, i, half);
		rc = add(f, &s, sizeof(s));
	}
	return rc ? rc : flush(f);
}

static int fill(struct zd_btt *btt)
{
	struct filler *f = zd_alloc(sizeof(*f));
	uint64_t bad;
	int rc;

	if (!f)
		return -ENOMEM;
	f->btt = btt;
	/* what is behind the last entries, too: all of it has sums */
	rc = zd_media_zero(btt->m, btt->info.map_off, btt->info.info_off[2] - btt->info.map_off,
			   false, &bad);
	if (!rc)
		rc = fill_map(f);
	if (!rc)
		rc = fill_owners(f);
	for (uint32_t part = 0; part < 4 && !rc; part++)
		rc = fill_flog(f, part % 2, part / 2);
	zd_free(f);
	return rc ? rc : zd_media_sync(btt->m);
}

static void name(struct zd_media *m, struct zd_btt_info_block *info)
{
	uint64_t other[2] = { m->identity.ino, m->identity.born_ns };

	if (getrandom(info->uuid, sizeof(info->uuid), GRND_NONBLOCK) < 0)
		memcpy(info->uuid, other, sizeof(other));
}

/* Whole, or not to be known for one. */
static int put_first(struct zd_media *m, struct zd_btt_info_block *info)
{
	int rc;

	info->checksum = zd_btt_info_sum(info);
	memset(info->magic, 0, sizeof(info->magic));
	rc = zd_media_put(m, 0, info, sizeof(*info));
	memcpy(info->magic, magic, sizeof(magic));
	if (!rc)
		rc = zd_media_sync(m);
	if (!rc)
		rc = zd_media_put(m, 0, info->magic, sizeof(info->magic));
	return rc ? rc : zd_media_sync(m);
}

int zd_btt_create(struct zd_media *m, uint32_t block, struct zd_btt_info_block *info)
{
	struct zd_btt *btt;
	int rc;

	memset(info, 0, sizeof(*info));
	memcpy(info->magic, magic, sizeof(magic));
	info->version = ZD_BTT_UNFINISHED;
	info->block = block ? block : DEFAULT_BLOCK;
	info->media_bytes = m->bytes;
	rc = compute(info);
	if (rc)
		return rc;
	name(m, info);
	btt = zd_btt_alloc(m, info);
	if (!btt)
		return -ENOMEM;
	rc = put_first(m, info);
	if (!rc)
		rc = fill(btt);
	btt->info.version = ZD_BTT_VERSION;
	if (!rc)
		rc = zd_btt_put_infos(btt);
	*info = btt->info;
	zd_btt_free(btt);
	return rc;
}
