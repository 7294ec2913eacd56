/* SPDX-License-Identifier: MIT */
/*
 * A BTT opened and closed.
 *
 * One that was closed has the sums of its pages: if they are right, so is all (btt/pages.c).
 * One that wasn't is recovered: what its flog says is not in the map yet; and then map,
 * owners and lanes are compared, in one pass over each.  Each data block is named once, by
 * the map or by a lane; and the map's entries are the owners' of the same data blocks: two
 * sums of what they say, over all of them, in whatever order, come out the same.
 *
 * Where that fails, all is compared with all (btt/check.c), which tells what an interrupted
 * request leaves from damage.  A damaged one isn't opened, for `zonedev check` to mend.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/btt/btt.h"
#include "drivers/explain.h"
#include "zonedev/log.h"

#define CHUNK		65536u

/* --- compare --- */

struct pass {
	struct zd_btt *btt;
	const struct zd_btt_log *log;
	uint64_t *named;		/* a bit for each data block */
	uint64_t sum;			/* of map entries, less that of owners */
	char buf[CHUNK];
};

/* 0; 1: another block, or a lane, has named it. */
static int name(struct pass *p, uint32_t at)
{
	uint64_t bit = UINT64_C(1) << (at % 64), *word = &p->named[at / 64];
	int twice = !!(*word & bit);

	*word |= bit;
	return twice;
}

static bool is_named(const struct pass *p, uint32_t at)
{
	return p->named[at / 64] >> (at % 64) & 1;
}

/* Of a thing that the map and an owner both say. */
static uint64_t mix(uint64_t block, uint64_t entry)
{
	uint64_t h = (entry ^ block * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);

	h = (h ^ h >> 32) * UINT64_C(0x94d049bb133111eb);
	return h ^ h >> 29;
}

static int map_entry(struct pass *p, uint64_t block, uint64_t entry)
{
	if (!zd_btt_is_entry(p->btt, entry) || name(p, zd_btt_data_block(entry)))
		return 1;
	p->sum += mix(block, entry);
	return 0;
}

static int owner(struct pass *p, uint32_t at, const struct zd_btt_owner *o)
{
	uint32_t block = o->what;
	enum zd_btt_kind kind = zd_btt_owner_kind(o);
	uint64_t entry;

	if (!zd_btt_owner_is_valid(p->btt, o, at) || zd_btt_owner_gen(o) > p->log->max_gen)
		return 1;
	if (!is_named(p, at))		/* a lane's: lanes are looked at by themselves */
		return 0;
	if (kind == ZD_BTT_DATA)
		entry = o->what >> 32 << 32 | (uint32_t)kind << ZD_BTT_KIND_SHIFT | at;
	else
		entry = zd_btt_kind_entry(p->btt, block, at, kind, zd_btt_owner_gen(o));
	p->sum -= mix(block, entry);
	return 0;
}

/* What is to be done again is as if it had been. */
static void overlay(struct pass *p, uint64_t off, size_t len)
{
	for (uint32_t i = 0; i < p->log->nr_redo; i++) {
		const struct zd_btt_redo *r = &p->log->redo[i];
		uint64_t map = zd_btt_map_off(p->btt, r->block) - off;
		uint64_t own = zd_btt_owner_off(p->btt, r->at) - off;

		if (map < len)
			memcpy(p->buf + map, &r->entry, sizeof(r->entry));
		if (own < len)
			memcpy(p->buf + own, &r->owner, sizeof(r->owner));
	}
}

static int each_chunk(struct pass *p, uint64_t off, uint64_t nr, size_t size,
		      int (*fn)(struct pass *p, uint64_t first, uint32_t nr))
{
	int rc = 0;

	for (uint64_t i = 0; i < nr && !rc; i += CHUNK / size) {
		uint64_t n = nr - i < CHUNK / size ? nr - i : CHUNK / size;

		rc = zd_media_get(p->btt->m, off + i * size, p->buf, n * size) ? 1 : 0;
		overlay(p, off + i * size, n * size);
		if (!rc)
			rc = fn(p, i, n);
	}
	return rc;
}

static int map_chunk(struct pass *p, uint64_t first, uint32_t nr)
{
	const uint64_t *entry = (const uint64_t *)p->buf;
	int rc = 0;

	for (uint32_t i = 0; i < nr && !rc; i++)
		rc = map_entry(p, first + i, entry[i]);
	return rc;
}

static int owner_chunk(struct pass *p, uint64_t first, uint32_t nr)
{
	const struct zd_btt_owner *o = (const struct zd_btt_owner *)p->buf;
	int rc = 0;

	for (uint32_t i = 0; i < nr && !rc; i++)
		rc = owner(p, first + i, &o[i]);
	return rc;
}

/* A lane's data block was written before the lane got it. */
static int check_lane(struct pass *p, uint32_t lane)
{
	const struct zd_btt_slot *s = &p->log->newest[lane];
	uint32_t at = zd_btt_data_block(s->old_entry);
	struct zd_btt_owner o;

	if (p->log->state[lane] == ZD_BTT_LANE_LOST || name(p, at))
		return 1;
	if (zd_media_get(p->btt->m, zd_btt_owner_off(p->btt, at), &o, sizeof(o)))
		return 1;
	return zd_btt_owner_gen(&o) > s->gen;
}

/* 0: it is all as it should be; 1: it isn't; -ENOMEM. */
static int compare(struct zd_btt *btt, const struct zd_btt_log *log)
{
	struct pass *p = zd_alloc(sizeof(*p));
	int rc = 1;

	if (!p)
		return -ENOMEM;
	p->btt = btt;
	p->log = log;
	p->named = zd_alloc((zd_btt_nr_data(btt) / 64 + 1) * sizeof(uint64_t));
	if (!p->named)
		rc = -ENOMEM;
	else if (log->max_gen >= btt->info.closed_gen)
		rc = each_chunk(p, btt->info.map_off, btt->nr_blocks, sizeof(uint64_t), map_chunk);
	if (!rc)
		rc = each_chunk(p, btt->info.owner_off, zd_btt_nr_data(btt),
				sizeof(struct zd_btt_owner), owner_chunk);
	for (uint32_t i = 0; i < btt->nr_lanes && !rc; i++)
		rc = check_lane(p, i);
	if (!rc)
		rc = p->sum != 0;
	zd_free(p->named);
	zd_free(p);
	return rc;
}

/* --- recovery --- */

/*
 * What a killed process left, or one whose msync failed, may be in a cache and not on
 * the media.  So the rule of btt.h, slot durable and then the map, holds for the
 * recovery, too, and what it finds is stored anew before it builds on it.
 */
static int redo(struct zd_btt *btt, const struct zd_btt_log *log)
{
	int rc = zd_btt_put_newest(btt, log);

	for (uint32_t i = 0; i < log->nr_redo && !rc; i++) {
		const struct zd_btt_redo *r = &log->redo[i];

		rc = zd_media_put(btt->m, zd_btt_owner_off(btt, r->at), &r->owner,
				  sizeof(r->owner));
		if (!rc)
			rc = zd_media_put64(btt->m, zd_btt_map_off(btt, r->block), r->entry);
	}
	if (!rc)
		rc = zd_media_sync(btt->m);
	return rc ? rc : zd_btt_put_older(btt, log);
}

static int recover(struct zd_btt *btt, const struct zd_btt_log *log)
{
	struct zd_btt_check *check;
	bool pending = false;
	int rc = compare(btt, log);

	for (uint32_t i = 0; i < log->nr_redo; i++)
		pending |= log->redo[i].changed;
	if (!rc && btt->m->readonly)
		return pending ? -EROFS : 0;
	if (rc <= 0)
		return rc ? rc : redo(btt, log);
	rc = zd_btt_check(btt, NULL, NULL, &check);
	if (rc)
		return rc;
	rc = zd_btt_check_damaged(check) ? -EUCLEAN : btt->m->readonly ? -EROFS : 0;
	if (!rc)
		rc = zd_btt_check_apply(check);
	zd_btt_check_free(check);
	return rc;
}

static void set_lanes(struct zd_btt *btt, const struct zd_btt_log *log)
{
	btt->gen = log->max_gen > btt->info.closed_gen ? log->max_gen : btt->info.closed_gen;
	for (uint32_t i = 0; i < btt->nr_lanes; i++) {
		btt->lanes[i].free = zd_btt_data_block(log->newest[i].old_entry);
		btt->lanes[i].gen = log->newest[i].gen;
		btt->lanes[i].half = !log->half[i];
	}
}

static int start(struct zd_btt *btt)
{
	uint8_t *bad = zd_alloc(zd_btt_nr_pages(btt));
	struct zd_btt_log log;
	uint64_t nr_bad;
	int rc = bad ? zd_btt_bad_pages(btt, bad, &nr_bad) : -ENOMEM;
	bool whole = !rc && !nr_bad;

	if (rc == 1 && btt->info.closed)
		zd_log(ZD_LOG_WARN, "pmem: the sums of a BTT's pages are broken: its tables are compared instead");
	zd_free(bad);
	if (rc < 0)
		return rc;
	if (!rc && nr_bad)
		return -EUCLEAN;
	rc = zd_btt_read_log(btt, NULL, &log);
	if (rc)
		return rc;
	if (!whole) {
		rc = recover(btt, &log);
		zd_btt_free_log(&log);
		if (!rc)		/* it may have written the flog */
			rc = zd_btt_read_log(btt, NULL, &log);
		if (rc)
			return rc;
	}
	if (log.nr_lost)
		rc = -EUCLEAN;
	else
		set_lanes(btt, &log);
	zd_btt_free_log(&log);
	return rc;
}

/* --- open and close --- */

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

void zd_btt_free(struct zd_btt *btt)
{
	zd_free(btt->ring);
	zd_free(btt->lanes);
	zd_free(btt);
}

static int explain(struct zd_media *m, int rc, char *err, size_t errlen)
{
	switch (rc) {
	case -ENOENT:
		return zd_explain(err, errlen, rc, "there is no BTT on it: leave btt=on out, or open it for writing");
	case -EINVAL:
		return zd_explain(err, errlen, rc, "%llu bytes are too few or too many for a BTT: give 1M to 4T (512G in blocks of 512)",
				    (unsigned long long)m->bytes);
	case -EUCLEAN:
		return zd_explain(err, errlen, rc, "its BTT is damaged: run zonedev check on it, which mends what can be, and says what is lost");
	case -EROFS:
		return zd_explain(err, errlen, -EUCLEAN, "its BTT was in use when it was last seen: open it once for writing");
	default:
		return zd_explain(err, errlen, rc, "its BTT: %s", strerrordesc_np(-rc));
	}
}

/* *@info: what there is, or was made.  Says itself what is wrong. */
static int find(struct zd_media *m, bool may_create, uint32_t block,
		struct zd_btt_info_block *info, uint32_t *nr_broken, char *err, size_t errlen)
{
	struct zd_btt_infos *infos = zd_alloc(sizeof(*infos));
	int rc = 0;

	if (!infos)
		return explain(m, -ENOMEM, err, errlen);
	zd_btt_read_infos(m, infos);
	if (infos->best >= 0) {
		*info = infos->b[infos->best];
		*nr_broken = infos->nr_broken;
	} else if (zd_btt_probe(m) == 1 && !infos->unfinished) {
		rc = zd_btt_explain_infos(m, infos, err, errlen);
	} else {
		rc = may_create ? zd_btt_create(m, block, info) : -ENOENT;
		if (rc)
			rc = explain(m, rc, err, errlen);
	}
	zd_free(infos);
	return rc;
}

int zd_btt_open(struct zd_media *m, bool may_create, uint32_t block, struct zd_btt **out,
		char *err, size_t errlen)
{
	struct zd_btt_info_block *info;
	struct zd_btt *btt = NULL;
	uint32_t nr_broken = 0;
	int rc;

	if (m->bytes < ZD_BTT_MIN_BYTES)
		return explain(m, -EINVAL, err, errlen);
	info = zd_alloc(sizeof(*info));
	if (!info)
		return explain(m, -ENOMEM, err, errlen);
	rc = find(m, may_create, block, info, &nr_broken, err, errlen);
	if (!rc)
		btt = zd_btt_alloc(m, info);
	zd_free(info);
	if (rc)
		return rc;
	rc = btt ? start(btt) : -ENOMEM;
	/* before the first write: the sums aren't right any more */
	if (!rc && !m->readonly) {
		btt->info.closed = 0;
		rc = zd_btt_put_infos(btt);
	}
	if (!rc && nr_broken)
		zd_log(ZD_LOG_WARN, m->readonly ? "pmem: %u of a BTT's three descriptions are broken" :
			"pmem: %u of a BTT's three descriptions were broken, and are mended", nr_broken);
	if (!rc) {
		*out = btt;
		return 0;
	}
	if (btt)
		zd_btt_free(btt);
	return explain(m, rc, err, errlen);
}

int zd_btt_put_closed(struct zd_btt *btt, uint64_t gen)
{
	int rc = zd_btt_put_sums(btt);

	if (!rc)
		rc = zd_media_sync(btt->m);
	btt->info.closed = 1;
	btt->info.closed_gen = gen;
	return rc ? rc : zd_btt_put_infos(btt);
}

/* What isn't durable in the map the flog has; then all of it can have its sums. */
void zd_btt_close(struct zd_btt *btt)
{
	uint64_t bad;

	if (!zd_media_sync(btt->m) && !btt->m->readonly && !zd_btt_has_failed(btt) &&
	    !zd_btt_check_media(btt, 0, &bad))
		zd_btt_put_closed(btt, btt->gen);
	zd_btt_free(btt);
}
