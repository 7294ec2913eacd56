/* SPDX-License-Identifier: MIT */
/*
 * A BTT made ready for use.
 *
 * One that was closed has the sums of its pages: if they are right, so is all (page_sums.c).
 * One that wasn't is recovered: what its flog says is not in the map yet is stored there; and
 * then map, owners and lanes are compared, in one pass over each.  Each data block must be named
 * once, by the map or by a lane; and the map's entries must be those that the owners of the same
 * data blocks imply: a sum over all entries, in whatever order, comes out as that over all owners.
 *
 * Where that fails, all is compared with all (check.c), which tells what an interrupted request
 * leaves from damage.  A damaged BTT isn't opened: `zonedev check' mends it.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/btt/check.h"
#include "drivers/btt/entry.h"
#include "drivers/btt/flog.h"
#include "drivers/btt/page_sums.h"
#include "drivers/btt/recover.h"
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

/* 0; 1: another block, or a lane, has named the data block. */
static int mark_named(struct pass *p, uint32_t at)
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

/* A hash of what a map entry and an owner both say. */
static uint64_t mix(uint64_t block, uint64_t entry)
{
	uint64_t h = (entry ^ block * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);

	h = (h ^ h >> 32) * UINT64_C(0x94d049bb133111eb);
	return h ^ h >> 29;
}

static int check_entry(struct pass *p, uint64_t block, uint64_t entry)
{
	if (!zd_btt_is_entry(p->btt, entry) || mark_named(p, zd_btt_data_block(entry)))
		return 1;
	p->sum += mix(block, entry);
	return 0;
}

static int check_owner(struct pass *p, uint32_t at, const struct zd_btt_owner *o)
{
	if (!zd_btt_owner_is_valid(p->btt, o, at) || zd_btt_owner_gen(o) > p->log->max_gen)
		return 1;
	if (!is_named(p, at))		/* a lane's: lanes are looked at by themselves */
		return 0;
	p->sum -= mix((uint32_t)o->what, zd_btt_implied_entry(p->btt, at, o));
	return 0;
}

/* In the chunk that was read, what is to be done again is as if it had been done. */
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
		rc = check_entry(p, first + i, entry[i]);
	return rc;
}

static int owner_chunk(struct pass *p, uint64_t first, uint32_t nr)
{
	const struct zd_btt_owner *o = (const struct zd_btt_owner *)p->buf;
	int rc = 0;

	for (uint32_t i = 0; i < nr && !rc; i++)
		rc = check_owner(p, first + i, &o[i]);
	return rc;
}

/* A lane's data block must not be named elsewhere, nor written since the lane has got it. */
static int check_lane(struct pass *p, uint32_t lane)
{
	const struct zd_btt_slot *s = &p->log->newest[lane];
	uint32_t at = zd_btt_data_block(s->old_entry);
	struct zd_btt_owner o;

	if (p->log->state[lane] == ZD_BTT_LANE_LOST || mark_named(p, at))
		return 1;
	if (zd_media_get(p->btt->m, zd_btt_owner_off(p->btt, at), &o, sizeof(o)))
		return 1;
	return zd_btt_owner_gen(&o) > s->gen;
}

/* Do map, owners and lanes fit each other?  0: yes; 1: no; -ENOMEM. */
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
 * Do again what the flog says.  What a killed process has left, or one whose msync() failed, may
 * be in a cache and not on the media.  So the rule of btt.h, first the slot durable and then the
 * map, holds for the recovery, too: it stores the slots that it has found anew, before the map.
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

/* The tables of a region that wasn't closed.  0; -EUCLEAN; -EROFS; -errno. */
static int recover_tables(struct zd_btt *btt, const struct zd_btt_log *log)
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
	rc = zd_btt_check_is_damaged(check) ? -EUCLEAN : btt->m->readonly ? -EROFS : 0;
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

/* The thread that opens the region; blocks. */
int zd_btt_start(struct zd_btt *btt)
{
	uint8_t *bad = zd_alloc(zd_btt_nr_pages(btt));
	struct zd_btt_log log;
	uint64_t nr_bad;
	int rc = bad ? zd_btt_bad_pages(btt, bad, &nr_bad) : -ENOMEM;
	bool whole = !rc && !nr_bad;

	if (rc == 1 && btt->info.closed)
		zd_log(ZD_LOG_WARN,
		       "pmem: the sums of a BTT's pages are broken: its tables are compared instead");
	zd_free(bad);
	if (rc < 0)
		return rc;
	if (!rc && nr_bad)
		return -EUCLEAN;
	rc = zd_btt_read_log(btt, NULL, &log);
	if (rc)
		return rc;
	if (!whole) {
		rc = recover_tables(btt, &log);
		zd_btt_free_log(&log);
		if (!rc)		/* the recovery may have written the flog */
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
