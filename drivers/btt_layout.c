/* SPDX-License-Identifier: MIT */
/*
 * A BTT on its media: found, laid out, recovered.  See btt.h.
 *
 * Laying out: map and flog are zeros first, then the second info block, then the first;
 * each durable before the next.  So where an info block is, all else is; and where the
 * first is still zeros, and the second isn't whole, nothing was ever written.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "core/alloc.h"
#include "drivers/btt.h"
#include "zonedev/log.h"

#define DEFAULT_BLOCK	4096u
#define MIN_LANES	16u
#define BLOCKS_PER_LANE	64u	/* a small region has fewer lanes */

#define ALIGN_UP(n)	(((n) + ZD_PAGE_SIZE - 1) & ZD_PAGE_MASK)

static const char magic[16] = ZD_BTT_MAGIC;

/* Of whole 64-bit words. */
uint64_t zd_media_checksum(const void *data, size_t len, uint64_t h)
{
	uint64_t word;

	for (size_t i = 0; i < len; i += sizeof(word)) {
		memcpy(&word, (const char *)data + i, sizeof(word));
		h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 32;
	}
	return h;
}

static uint64_t info_checksum(const struct zd_btt_info_block *info)
{
	return zd_media_checksum(info, offsetof(struct zd_btt_info_block, checksum),
				 ZD_BTT_VERSION);
}

uint64_t zd_btt_slot_checksum(const struct zd_btt_slot *slot, uint32_t lane)
{
	return zd_media_checksum(slot, offsetof(struct zd_btt_slot, checksum), ~(uint64_t)lane);
}

/* --- info blocks --- */

/* Where everything is, of so many bytes.  -EINVAL: too few, or too many. */
static int compute(struct zd_btt_info_block *info)
{
	uint64_t bytes = info->media_bytes, block = info->block, map, flog, room;
	uint64_t lanes = bytes / block / BLOCKS_PER_LANE;

	if (bytes < ZD_BTT_MIN_BYTES)
		return -EINVAL;
	lanes = lanes < MIN_LANES ? MIN_LANES : lanes > ZD_BTT_MAX_LANES ? ZD_BTT_MAX_LANES : lanes;
	flog = ALIGN_UP(lanes * sizeof(struct zd_btt_flog));
	/* two info blocks, and a page each for the data's and the map's rounding */
	room = bytes - 2 * ZD_BTT_INFO_BYTES - flog - 2 * ZD_PAGE_SIZE - lanes * block;
	info->nr_blocks = room / (block + sizeof(uint32_t));
	/* a whole number of pages in any case */
	info->nr_blocks &= ~(ZD_PAGE_SIZE / block - 1);
	if (info->nr_blocks + lanes > ZD_BTT_MAP_BLOCK)
		return -EINVAL;
	map = ALIGN_UP(info->nr_blocks * sizeof(uint32_t));
	info->nr_lanes = lanes;
	info->data_off = ZD_BTT_INFO_BYTES;
	info->map_off = info->data_off + ALIGN_UP((info->nr_blocks + lanes) * block);
	info->flog_off = info->map_off + map;
	info->info2_off = bytes - ZD_BTT_INFO_BYTES;
	return info->flog_off + flog <= info->info2_off ? 0 : -EINVAL;
}

/* A valid one describes what compute() would, of this version. */
static bool is_valid(const struct zd_btt_info_block *info, uint64_t media_bytes)
{
	struct zd_btt_info_block want = *info;

	if (memcmp(info->magic, magic, sizeof(magic)) || info->version != ZD_BTT_VERSION ||
	    info->checksum != info_checksum(info) || info->media_bytes != media_bytes ||
	    (info->block != 512 && info->block != 4096))
		return false;
	return !compute(&want) && !memcmp(&want, info, sizeof(want));
}

/* Both, each with what reading it said. */
struct infos {
	struct zd_btt_info_block b[2];
	int rc[2];
};

static void read_infos(struct zd_media *m, struct infos *i)
{
	i->rc[0] = zd_media_get(m, 0, &i->b[0], sizeof(i->b[0]));
	i->rc[1] = zd_media_get(m, m->bytes - ZD_BTT_INFO_BYTES, &i->b[1], sizeof(i->b[1]));
}

static bool has_magic(const struct infos *i)
{
	return (!i->rc[0] && !memcmp(i->b[0].magic, magic, sizeof(magic))) ||
	       (!i->rc[1] && !memcmp(i->b[1].magic, magic, sizeof(magic)));
}

/* Laying it out was interrupted. */
static bool is_unfinished(const struct infos *i, uint64_t media_bytes)
{
	static const struct zd_btt_info_block zeros;

	return !i->rc[0] && !memcmp(&i->b[0], &zeros, sizeof(zeros)) &&
	       !(!i->rc[1] && is_valid(&i->b[1], media_bytes));
}

int zd_btt_probe(struct zd_media *m)
{
	struct infos *i;
	int rc;

	if (m->bytes < ZD_BTT_MIN_BYTES)
		return 0;
	i = zd_alloc(sizeof(*i));
	if (!i)
		return -ENOMEM;
	read_infos(m, i);
	rc = has_magic(i);
	zd_free(i);
	return rc;
}

/* --- laying out --- */

static int zero_area(struct zd_media *m, uint64_t from, uint64_t to, bool punch)
{
	uint64_t bad;

	return zd_media_zero(m, from, to - from, punch, &bad);
}

static int put_info(struct zd_media *m, uint64_t off, const struct zd_btt_info_block *info)
{
	int rc = zd_media_put(m, off, info, sizeof(*info));

	return rc ? rc : zd_media_sync(m);
}

static int create(struct zd_media *m, uint32_t block, struct zd_btt_info_block *info)
{
	int rc;

	memset(info, 0, sizeof(*info));
	memcpy(info->magic, magic, sizeof(magic));
	info->version = ZD_BTT_VERSION;
	info->block = block ? block : DEFAULT_BLOCK;
	info->media_bytes = m->bytes;
	rc = compute(info);
	if (rc)
		return rc;
	if (getrandom(info->uuid, sizeof(info->uuid), GRND_NONBLOCK) < 0)
		memcpy(info->uuid, &m->base, sizeof(m->base));	/* only a name */
	info->checksum = info_checksum(info);
	rc = zero_area(m, 0, ZD_BTT_INFO_BYTES, false);
	if (!rc)
		rc = zero_area(m, info->map_off, info->flog_off, true);
	/* the flog gets its storage now: a write must not fail for it halfway */
	if (!rc)
		rc = zero_area(m, info->flog_off, m->bytes, false);
	if (!rc)
		rc = zd_media_sync(m);
	if (!rc)
		rc = put_info(m, info->info2_off, info);
	return rc ? rc : put_info(m, 0, info);
}

/* The valid one of the two mends the other. */
static int find(struct zd_media *m, struct infos *i, struct zd_btt_info_block *info)
{
	bool valid[2];

	for (int k = 0; k < 2; k++)
		valid[k] = !i->rc[k] && is_valid(&i->b[k], m->bytes);
	if (!valid[0] && !valid[1])
		return -EUCLEAN;
	*info = i->b[valid[0] ? 0 : 1];
	if (m->readonly || (valid[0] && valid[1] && !memcmp(&i->b[0], &i->b[1], sizeof(*info))))
		return 0;
	zd_log(ZD_LOG_WARN, "pmem: one of the BTT's two descriptions was broken, and is mended");
	return put_info(m, valid[0] ? info->info2_off : 0, info);
}

/* --- recovery --- */

static bool slot_is_valid(const struct zd_btt *btt, const struct zd_btt_slot *s, uint32_t lane)
{
	uint64_t total = btt->nr_blocks + btt->nr_lanes;

	return s->seq >= 1 && s->seq <= 3 && s->checksum == zd_btt_slot_checksum(s, lane) &&
	       s->block < btt->nr_blocks && (s->new_map & ZD_BTT_MAP_BLOCK) < total &&
	       (s->old_map & ZD_BTT_MAP_BLOCK) < total;
}

static bool is_blank(const struct zd_btt_slot *s)
{
	static const struct zd_btt_slot blank;

	return !memcmp(s, &blank, sizeof(blank));
}

/* Which slot is the newer: 0, 1; -1: none was ever completed; -EUCLEAN. */
static int newer_slot(const struct zd_btt *btt, const struct zd_btt_flog *f, uint32_t lane)
{
	bool a = slot_is_valid(btt, &f->slot[0], lane), b = slot_is_valid(btt, &f->slot[1], lane);

	if (a && b) {
		if (f->slot[1].seq == f->slot[0].seq % 3 + 1)
			return 1;
		return f->slot[0].seq == f->slot[1].seq % 3 + 1 ? 0 : -EUCLEAN;
	}
	if (a || b)
		return b;
	/* the first write of all may have been torn: it went to slot 0 */
	return is_blank(&f->slot[1]) ? -1 : -EUCLEAN;
}

/* What was written, and is not in the map: put it there.  What is there is stored once
 * more: it may have been seen in a cache only. */
static int redo(struct zd_btt *btt, const struct zd_btt_slot *s)
{
	uint32_t entry;
	int rc = zd_media_get(btt->m, zd_btt_map_off(btt, s->block), &entry, sizeof(entry));

	if (rc)
		return rc;
	if (btt->m->readonly)
		return entry == s->old_map ? -EROFS : 0;
	return zd_media_put32(btt->m, zd_btt_map_off(btt, s->block),
			      entry == s->old_map ? s->new_map : entry);
}

static int recover_lane(struct zd_btt *btt, uint32_t i, const struct zd_btt_flog *f)
{
	struct zd_btt_lane *lane = &btt->lanes[i];
	int newer = newer_slot(btt, f, i);
	const struct zd_btt_slot *s;

	if (newer < -1)
		return newer;
	if (newer < 0) {
		lane->free = btt->nr_blocks + i;
		return 0;
	}
	s = &f->slot[newer];
	lane->free = zd_btt_data_block(s->old_map, s->block);
	lane->seq = s->seq;
	lane->slot = !newer;
	return redo(btt, s);
}

/* One data block can't be free twice. */
static int check_lanes(const struct zd_btt *btt)
{
	for (uint32_t i = 0; i < btt->nr_lanes; i++)
		for (uint32_t k = 0; k < i; k++)
			if (btt->lanes[i].free == btt->lanes[k].free)
				return -EUCLEAN;
	return 0;
}

/*
 * What a killed process left, or one whose msync failed, may be in a cache and not on
 * the media.  So the rule of btt.h, slot durable and then the map, holds for the
 * recovery, too, and what it finds is stored anew before it builds on it.
 */
static int recover(struct zd_btt *btt)
{
	size_t bytes = btt->nr_lanes * sizeof(struct zd_btt_flog);
	struct zd_btt_flog *flog = zd_alloc(bytes);
	int rc;

	if (!flog)
		return -ENOMEM;
	rc = zd_media_get(btt->m, btt->flog_off, flog, bytes);
	if (!rc && !btt->m->readonly)
		rc = zd_media_put(btt->m, btt->flog_off, flog, bytes);
	if (!rc)
		rc = zd_media_order(btt->m);
	for (uint32_t i = 0; i < btt->nr_lanes && !rc; i++)
		rc = recover_lane(btt, i, &flog[i]);
	zd_free(flog);
	if (!rc)
		rc = check_lanes(btt);
	return rc ? rc : zd_media_sync(btt->m);
}

/* --- open and close --- */

static struct zd_btt *btt_alloc(struct zd_media *m, const struct zd_btt_info_block *info)
{
	struct zd_btt *btt = zd_alloc(sizeof(*btt));

	if (!btt)
		return NULL;
	btt->m = m;
	btt->block = info->block;
	btt->nr_blocks = info->nr_blocks;
	btt->nr_lanes = info->nr_lanes;
	btt->data_off = info->data_off;
	btt->map_off = info->map_off;
	btt->flog_off = info->flog_off;
	btt->info2_off = info->info2_off;
	memcpy(btt->uuid, info->uuid, sizeof(btt->uuid));
	btt->lanes = zd_alloc(btt->nr_lanes * sizeof(btt->lanes[0]));
	btt->ring = zd_alloc(btt->nr_lanes * sizeof(btt->ring[0]));
	if (btt->lanes && btt->ring) {
		for (uint32_t i = 0; i < btt->nr_lanes; i++)
			btt->ring[i] = i;
		btt->ring_nr = btt->nr_lanes;
		return btt;
	}
	zd_free(btt->ring);
	zd_free(btt->lanes);
	zd_free(btt);
	return NULL;
}

static void btt_free(struct zd_btt *btt)
{
	zd_free(btt->ring);
	zd_free(btt->lanes);
	zd_free(btt);
}

static int explain(struct zd_media *m, int rc, char *err, size_t errlen)
{
	switch (rc) {
	case -ENOENT:
		return zd_pmem_fail(err, errlen, rc, "there is no BTT on it: leave btt=on out, or open it for writing");
	case -EINVAL:
		return zd_pmem_fail(err, errlen, rc, "%llu bytes are too few or too many for a BTT: give 1M to 4T (512G in blocks of 512)",
				    (unsigned long long)m->bytes);
	case -EUCLEAN:
		return zd_pmem_fail(err, errlen, rc, "its BTT is broken, or was made for another size: restore it from a copy");
	case -EROFS:
		return zd_pmem_fail(err, errlen, -EUCLEAN, "its BTT was in use when it was last seen: open it once for writing");
	default:
		return zd_pmem_fail(err, errlen, rc, "its BTT: %s", strerrordesc_np(-rc));
	}
}

static int open_or_create(struct zd_media *m, bool may_create, uint32_t block,
			  struct zd_btt_info_block *info)
{
	struct infos *i = zd_alloc(sizeof(*i));
	int rc;

	if (!i)
		return -ENOMEM;
	if (m->bytes < ZD_BTT_MIN_BYTES) {
		rc = -EINVAL;
	} else {
		read_infos(m, i);
		if (has_magic(i) && !is_unfinished(i, m->bytes))
			rc = find(m, i, info);
		else
			rc = may_create ? create(m, block, info) : -ENOENT;
	}
	zd_free(i);
	return rc;
}

int zd_btt_open(struct zd_media *m, bool may_create, uint32_t block, struct zd_btt **out,
		char *err, size_t errlen)
{
	struct zd_btt_info_block *info = zd_alloc(sizeof(*info));
	struct zd_btt *btt = NULL;
	int rc = -ENOMEM;

	if (info)
		rc = open_or_create(m, may_create, block, info);
	if (!rc) {
		btt = btt_alloc(m, info);
		rc = btt ? recover(btt) : -ENOMEM;
	}
	zd_free(info);
	if (!rc) {
		*out = btt;
		return 0;
	}
	if (btt)
		btt_free(btt);
	return explain(m, rc, err, errlen);
}

void zd_btt_close(struct zd_btt *btt)
{
	/* the map: what isn't durable there the flog has */
	zd_media_sync(btt->m);
	btt_free(btt);
}
