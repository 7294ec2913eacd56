/* SPDX-License-Identifier: MIT */
/*
 * Which lanes' slots are lost or old:
 *
 *	neither half is valid			lost
 *	the halves don't follow each other	lost: the newer may be the one that is old
 *	one half is valid			of a region that was closed, or whose lane's data
 *						block has an owner in a bad page: lost
 *	its data block's owner is newer		the slot is old
 *	two lanes have the same data block	both are lost
 *	an owner in a good page, or the info	all are old
 *	block, is newer than the whole flog
 */
#include "drivers/btt/tables.h"

/* What the lane did last is not known, or not to be relied on. */
static void lose_lane(struct zd_btt_check *c, uint32_t lane)
{
	if (c->log.state[lane] == ZD_BTT_LANE_LOST)
		return;
	c->log.state[lane] = ZD_BTT_LANE_LOST;
	c->log.nr_lost++;
}

static uint32_t lane_free(const struct zd_btt_check *c, uint32_t lane)
{
	return zd_btt_data_block(c->log.newest[lane].old_entry);
}

/* Sets @max_gen; if the region has seen a later generation than the flog, all lanes are lost. */
static void find_max_gen(struct zd_btt_check *c)
{
	bool old = c->log.max_gen < c->btt->info.closed_gen;

	c->max_gen = old ? c->btt->info.closed_gen : c->log.max_gen;
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++) {
		uint64_t gen = zd_btt_owner_gen(&c->own[d]);

		if (!zd_btt_check_owner_is_valid(c, d) || gen <= c->log.max_gen ||
		    (c->exact && *zd_btt_check_owner_page(c, d)))
			continue;
		if (gen > c->max_gen)
			c->max_gen = gen;
		old |= !*zd_btt_check_owner_page(c, d);
	}
	for (uint32_t i = 0; i < c->btt->nr_lanes && old; i++)
		lose_lane(c, i);
}

bool zd_btt_check_log_is_damaged(const struct zd_btt_check *c)
{
	return c->log.nr_mended || c->log.nr_torn || c->log.nr_lost;
}

/* The thread that checks. */
void zd_btt_check_lanes(struct zd_btt_check *c)
{
	uint32_t nr = c->btt->nr_lanes;

	find_max_gen(c);
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t at = lane_free(c, i);

		if (c->log.state[i] == ZD_BTT_LANE_TORN && c->btt->info.closed)
			lose_lane(c, i);
		if (c->log.state[i] == ZD_BTT_LANE_LOST)
			continue;
		/* its data block was written after the lane got it: the slot is old */
		if (zd_btt_check_owner_is_valid(c, at) &&
		    !(c->exact && *zd_btt_check_owner_page(c, at)) &&
		    zd_btt_owner_gen(&c->own[at]) > c->log.newest[i].gen)
			lose_lane(c, i);
		for (uint32_t k = 0; k < i; k++)
			if (c->log.state[k] != ZD_BTT_LANE_LOST && lane_free(c, k) == at) {
				lose_lane(c, i);
				lose_lane(c, k);
			}
	}
	for (uint32_t i = 0; i < nr; i++)
		if (c->log.state[i] != ZD_BTT_LANE_LOST)
			c->claim[lane_free(c, i)] = ZD_BTT_A_LANE;
	c->lanes_known = !c->log.nr_lost;
	c->damaged |= c->log.nr_lost > 0;
	if (c->log.nr_lost)
		zd_btt_check_say(c, "the log of %u of %u lanes is lost or old", c->log.nr_lost, nr);
}

/* Of a lane with one valid half that may be the older one.  Only the owner of the lane's data block
 * would tell: if the owner's page is bad, the lane is lost. */
void zd_btt_check_torn_lanes(struct zd_btt_check *c)
{
	uint32_t lost = c->log.nr_lost;

	for (uint32_t i = 0; i < c->btt->nr_lanes; i++) {
		uint32_t at = lane_free(c, i);

		if (c->log.state[i] == ZD_BTT_LANE_TORN && *zd_btt_check_owner_page(c, at)) {
			lose_lane(c, i);
			c->claim[at] = ZD_BTT_NOBODY;
		}
	}
	if (c->log.nr_lost == lost)
		return;
	c->damaged = true;
	c->lanes_known = c->map_whole = c->owners_whole = false;
	zd_btt_check_say(c, "the log of %u more lanes is lost", c->log.nr_lost - lost);
}
