/* SPDX-License-Identifier: MIT */
/* What the lanes of a BTT did last: their flog, read and written.  See flog.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/btt/entry.h"
#include "drivers/btt/flog.h"

#define COPIES	2u

struct zd_btt_slot zd_btt_blank_slot(uint32_t free, uint64_t gen, uint64_t prev)
{
	uint64_t entry = (uint64_t)ZD_BTT_ZERO << ZD_BTT_KIND_SHIFT | free;

	return (struct zd_btt_slot){
		.old_entry = entry, .new_entry = entry, .gen = gen, .prev_gen = prev,
		.block = ZD_BTT_NO_BLOCK,
	};
}

/* --- write --- */

/* The thread that has the lane. */
int zd_btt_put_slot(struct zd_btt *btt, uint32_t lane, uint32_t half, struct zd_btt_slot *slot)
{
	struct iovec iov = { slot, sizeof(*slot) };
	int rc = 0;

	slot->checksum = zd_btt_slot_sum(btt, slot, lane, half);
	for (uint32_t copy = 0; copy < COPIES && !rc; copy++) {
		struct zd_iter it = { .iov = &iov, .nr = 1 };
		uint64_t bad;

		rc = zd_media_write(btt->m, zd_btt_slot_off(btt, lane, half, copy), &it,
				    sizeof(*slot), &bad);
	}
	return rc;
}

/* No lane is taken.  Blocks. */
int zd_btt_put_newest(struct zd_btt *btt, const struct zd_btt_log *log)
{
	int rc = 0;

	for (uint32_t i = 0; i < btt->nr_lanes && !rc; i++)
		rc = zd_btt_put_slot(btt, i, log->half[i], &log->newest[i]);
	return rc ? rc : zd_media_order(btt->m);
}

/* No lane is taken.  Blocks. */
int zd_btt_put_older(struct zd_btt *btt, const struct zd_btt_log *log)
{
	int rc = 0;

	for (uint32_t i = 0; i < btt->nr_lanes && !rc; i++) {
		const struct zd_btt_slot *s = &log->newest[i];
		struct zd_btt_slot older = zd_btt_blank_slot(zd_btt_data_block(s->old_entry),
							     s->prev_gen, 0);

		if (log->state[i] == ZD_BTT_LANE_TORN)
			rc = zd_btt_put_slot(btt, i, !log->half[i], &older);
	}
	return rc ? rc : zd_media_sync(btt->m);
}

/* --- read --- */

static bool is_plausible(const struct zd_btt *btt, const struct zd_btt_slot *s)
{
	return zd_btt_is_entry(btt, s->old_entry) && zd_btt_is_entry(btt, s->new_entry) &&
	       (s->block < btt->nr_blocks || s->block == ZD_BTT_NO_BLOCK);
}

static bool read_slot(struct zd_btt *btt, const uint8_t *bad_page, uint32_t lane, uint32_t half,
		      uint32_t copy, struct zd_btt_slot *s)
{
	uint64_t off = zd_btt_slot_off(btt, lane, half, copy);

	if (bad_page && bad_page[(off - btt->info.map_off) / ZD_PAGE_SIZE])
		return false;
	return !zd_media_get(btt->m, off, s, sizeof(*s)) &&
	       s->checksum == zd_btt_slot_sum(btt, s, lane, half) && is_plausible(btt, s);
}

/* The newer of the valid copies of a half.  False: there is none. */
static bool read_half(struct zd_btt *btt, const uint8_t *bad_page, struct zd_btt_log *log,
		      uint32_t lane, uint32_t half, struct zd_btt_slot *s)
{
	struct zd_btt_slot other;
	bool a = read_slot(btt, bad_page, lane, half, 0, s);
	bool b = read_slot(btt, bad_page, lane, half, 1, &other);

	log->nr_mended += a != b || (a && memcmp(s, &other, sizeof(other)));
	if (b && (!a || other.gen > s->gen))
		*s = other;
	return a || b;
}

static void read_lane(struct zd_btt *btt, const uint8_t *bad_page, struct zd_btt_log *log,
		      uint32_t lane)
{
	struct zd_btt_slot s[2];
	bool valid[2];
	int newer;

	for (uint32_t half = 0; half < 2; half++)
		valid[half] = read_half(btt, bad_page, log, lane, half, &s[half]);
	if (!valid[0] && !valid[1]) {
		log->state[lane] = ZD_BTT_LANE_LOST;
		log->nr_lost++;
		return;
	}
	newer = !valid[0] || (valid[1] && s[1].gen > s[0].gen);
	log->newest[lane] = s[newer];
	log->half[lane] = newer;
	if (!valid[!newer]) {
		log->state[lane] = ZD_BTT_LANE_TORN;
		log->nr_torn++;
	} else if (s[newer].prev_gen != s[!newer].gen) {
		/* the other half isn't the one before: that half is old, and may have been newer
		 * than this one when it was lost */
		log->state[lane] = ZD_BTT_LANE_LOST;
		log->nr_lost++;
	}
	if (s[newer].gen > log->max_gen)
		log->max_gen = s[newer].gen;
}

/* --- what is to be done again --- */

static bool read_owner(struct zd_btt *btt, uint32_t at, struct zd_btt_owner *o)
{
	return !zd_media_get(btt->m, zd_btt_owner_off(btt, at), o, sizeof(*o)) &&
	       zd_btt_owner_is_valid(btt, o, at);
}

/*
 * What the newest slot @s says, and the media don't have yet: the owner, if the media have an
 * older one or none that is valid; and the map's entry, if the map has the one before.  An older
 * owner tells that the block was not written since, whatever the map has.  An owner of a later
 * generation tells that the slot is old, or that its step 3 was done and overwritten: then nothing
 * is done again, and whether all fits together is for recover.c and check.c to find out.
 */
static bool find_redo(struct zd_btt *btt, const struct zd_btt_slot *s, struct zd_btt_redo *r)
{
	uint32_t at = zd_btt_data_block(s->new_entry), old = zd_btt_data_block(s->old_entry);
	uint64_t entry = 0, zeroed = zd_btt_kind_entry(btt, s->block, at, ZD_BTT_ZERO, s->gen);
	struct zd_btt_owner have, before;
	bool valid = read_owner(btt, at, &have), todo;

	if ((valid && zd_btt_owner_gen(&have) > s->gen) ||
	    (read_owner(btt, old, &before) && zd_btt_owner_gen(&before) > s->gen))
		return false;
	zd_media_get(btt->m, zd_btt_map_off(btt, s->block), &entry, sizeof(entry));
	todo = entry == s->old_entry || (valid && zd_btt_owner_gen(&have) < s->gen);
	r->block = s->block;
	r->at = at;
	r->entry = todo && entry != zeroed ? s->new_entry : entry;
	r->owner = zd_btt_make_owner(btt, at, s->block, s->new_entry >> 32,
				     entry == zeroed ? ZD_BTT_ZERO : ZD_BTT_DATA, s->gen);
	/* the same but for the kind: the block has been zeroed since */
	if (valid && zd_btt_owner_gen(&have) == s->gen && have.what == r->owner.what)
		r->owner = have;
	r->odd = todo && entry != s->old_entry && entry != s->new_entry && entry != zeroed;
	r->changed = r->entry != entry || !valid || memcmp(&have, &r->owner, sizeof(have));
	return true;
}

/* Two lanes may have written the same block: the later write is done again last. */
static int by_gen(const void *a, const void *b)
{
	uint64_t x = zd_btt_owner_gen(&((const struct zd_btt_redo *)a)->owner);
	uint64_t y = zd_btt_owner_gen(&((const struct zd_btt_redo *)b)->owner);

	return (x > y) - (x < y);
}

/* No lane is taken.  Blocks. */
int zd_btt_read_log(struct zd_btt *btt, const uint8_t *bad_page, struct zd_btt_log *log)
{
	memset(log, 0, sizeof(*log));
	log->newest = zd_alloc(btt->nr_lanes * sizeof(log->newest[0]));
	log->half = zd_alloc(btt->nr_lanes);
	log->state = zd_alloc(btt->nr_lanes);
	log->redo = zd_alloc(btt->nr_lanes * sizeof(log->redo[0]));
	if (!log->newest || !log->half || !log->state || !log->redo) {
		zd_btt_free_log(log);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < btt->nr_lanes; i++)
		read_lane(btt, bad_page, log, i);
	for (uint32_t i = 0; i < btt->nr_lanes; i++)
		if (log->state[i] != ZD_BTT_LANE_LOST && log->newest[i].block != ZD_BTT_NO_BLOCK &&
		    find_redo(btt, &log->newest[i], &log->redo[log->nr_redo]))
			log->nr_redo++;
	qsort(log->redo, log->nr_redo, sizeof(log->redo[0]), by_gen);
	return 0;
}

void zd_btt_free_log(struct zd_btt_log *log)
{
	zd_free(log->redo);
	zd_free(log->state);
	zd_free(log->half);
	zd_free(log->newest);
}
