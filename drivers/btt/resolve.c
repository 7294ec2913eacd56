/* SPDX-License-Identifier: MIT */
/*
 * Where each block of a damaged BTT is: each of its tables is made from the others, and a block
 * whose place none of them tells is marked as lost.
 *
 * A block's place is certain
 *
 *  1. where map and owner agree, and the entry's page is good, or the owner's page is and the
 *     data block is known to be no lane's (a free data block keeps its last owner);
 *  2. by an owner in a good page, if its data block is no lane's: then its last owner is its
 *     owner.  If it isn't known which data blocks are the lanes', by the newest of the owners
 *     that name the block, provided that no page of the owners is bad: a bad page may have had
 *     a newer one;
 *  3. by a map entry in a good page.
 *
 * Where it isn't certain which pages are bad, and two tables have bad ones (the log and the sums
 * count as tables), only 1 is left, with both pages good: a page that hasn't been found to be old
 * may be old all the same, as what would contradict it is gone.
 *
 * In 2 and 3 the content must have its checksum, too.  Any other block is lost, as its content
 * could be an old one: it isn't searched for by checksum, since other blocks may have had the
 * same content.
 */
#include <string.h>

#include "drivers/btt/entry.h"
#include "drivers/btt/tables.h"

static bool is_bad_map(const struct zd_btt_check *c, uint64_t block)
{
	return *zd_btt_check_map_page(c, block);
}

static bool is_bad_owner(const struct zd_btt_check *c, uint64_t at)
{
	return *zd_btt_check_owner_page(c, at);
}

/* The block is in data block @at: map and owner say so from now on. */
static void place(struct zd_btt_check *c, uint64_t block, uint32_t at, uint32_t sum,
		  enum zd_btt_kind kind, uint64_t gen)
{
	c->own[at] = zd_btt_make_owner(c->btt, at, block, sum, kind, gen);
	c->map[block] = zd_btt_check_implied(c, at);
	c->claim[at] = block;
	c->placed[block] = 1;
	c->nr_lost += kind == ZD_BTT_LOST;
}

/* Rule 1. */
static void place_agreed(struct zd_btt_check *c, uint64_t block)
{
	uint64_t entry = c->map[block];
	uint32_t at = zd_btt_data_block(entry);
	struct zd_btt_owner o;
	enum zd_btt_kind kind;

	if (!zd_btt_is_entry(c->btt, entry) || c->claim[at] != ZD_BTT_NOBODY ||
	    (is_bad_map(c, block) && (is_bad_owner(c, at) || !c->lanes_known)) ||
	    (c->doubt && (is_bad_map(c, block) || is_bad_owner(c, at))))
		return;
	o = c->own[at];
	kind = zd_btt_agree(c->btt, block, entry, &o);
	if (kind == ZD_BTT_NONE)
		return;
	c->nr_usual += kind != zd_btt_kind(entry) || kind != zd_btt_owner_kind(&o);
	place(c, block, at, o.what >> 32, kind, zd_btt_owner_gen(&o));
}

/* Does the owner, by rule 2, name a block that isn't placed yet? */
static bool owner_tells(const struct zd_btt_check *c, uint64_t at)
{
	const struct zd_btt_owner *o = &c->own[at];
	uint32_t block = o->what;

	return c->claim[at] == ZD_BTT_NOBODY && block < c->btt->nr_blocks && !c->placed[block] &&
	       zd_btt_owner_is_valid(c->btt, o, at);
}

static void place_by_owner(struct zd_btt_check *c, uint32_t at)
{
	const struct zd_btt_owner o = c->own[at];
	enum zd_btt_kind kind = zd_btt_owner_kind(&o);

	if (!zd_btt_check_content(c, (uint32_t)o.what, zd_btt_check_implied(c, at)))
		return;
	place(c, (uint32_t)o.what, at, o.what >> 32, kind, zd_btt_owner_gen(&o));
	c->nr_rebuilt++;
}

/* For each block that isn't placed yet, the newest that names it. */
static void find_newest(struct zd_btt_check *c)
{
	memset(c->newest, 0xff, c->btt->nr_blocks * sizeof(c->newest[0]));
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++) {
		uint32_t *n;

		if (!owner_tells(c, d))
			continue;
		n = &c->newest[(uint32_t)c->own[d].what];
		if (*n == ZD_BTT_NOBODY ||
		    zd_btt_owner_gen(&c->own[d]) > zd_btt_owner_gen(&c->own[*n]))
			*n = d;
	}
}

static void place_by_owners(struct zd_btt_check *c)
{
	if (!c->lanes_known && (c->bad_owners || !c->exact))
		return;
	if (!c->lanes_known)
		find_newest(c);
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++)
		if (owner_tells(c, d) && !is_bad_owner(c, d) &&
		    (c->lanes_known || c->newest[(uint32_t)c->own[d].what] == d))
			place_by_owner(c, d);
}

/* Rule 3. */
static void place_by_map(struct zd_btt_check *c, uint64_t block)
{
	uint64_t entry = c->map[block];
	uint32_t at = zd_btt_data_block(entry);

	if (!zd_btt_is_entry(c->btt, entry) || is_bad_map(c, block) ||
	    c->claim[at] != ZD_BTT_NOBODY)
		return;
	if (!zd_btt_check_content(c, block, entry))
		return;
	place(c, block, at, entry >> 32, zd_btt_kind(entry), c->max_gen + 1);
	c->nr_rebuilt++;
}

/* --- what is lost --- */

/* The next data block that no block and no lane has.  There are as many as are needed, as each
 * block and each lane has one. */
static uint32_t take_free(struct zd_btt_check *c, uint64_t *next)
{
	while (c->claim[*next] != ZD_BTT_NOBODY)
		++*next;
	return (*next)++;
}

static void say_lost(const struct zd_btt_check *c, uint64_t first, uint64_t end)
{
	uint64_t sectors = c->btt->block / ZD_SECTOR_SIZE;

	zd_btt_check_say(c, "sectors %llu-%llu are lost: reads of them fail until they are written",
			 (unsigned long long)(first * sectors),
			 (unsigned long long)(end * sectors - 1));
}

static bool is_lost(const struct zd_btt_check *c, uint64_t block)
{
	return zd_btt_kind(c->map[block]) == ZD_BTT_LOST;
}

static void say_all_lost(const struct zd_btt_check *c)
{
	uint64_t end, nr = c->btt->nr_blocks;

	for (uint64_t b = 0; b < nr; b = end) {
		for (end = b + 1; end < nr && is_lost(c, end) == is_lost(c, b); end++)
			;
		if (is_lost(c, b))
			say_lost(c, b, end);
	}
}

/* Lanes whose log is lost get data blocks that are left; the other lanes keep their own. */
static void give_to_lanes(struct zd_btt_check *c, uint64_t next)
{
	for (uint32_t i = 0; i < c->btt->nr_lanes; i++) {
		struct zd_btt_slot *s = &c->log.newest[i];
		uint32_t at = zd_btt_data_block(s->old_entry);

		if (c->log.state[i] == ZD_BTT_LANE_LOST)
			at = take_free(c, &next);
		c->claim[at] = ZD_BTT_A_LANE;
		*s = zd_btt_blank_slot(at, c->max_gen + 2 + i, 0);
		c->log.half[i] = 0;
		c->log.state[i] = ZD_BTT_LANE_TORN;
		if (!zd_btt_owner_is_valid(c->btt, &c->own[at], at))
			c->own[at] = zd_btt_make_owner(c->btt, at, ZD_BTT_NO_BLOCK, 0, ZD_BTT_ZERO,
						       0);
	}
}

/* The thread that checks; reads contents, so it may block. */
void zd_btt_check_resolve(struct zd_btt_check *c)
{
	uint64_t next = 0;

	for (uint64_t b = 0; b < c->btt->nr_blocks; b++)
		place_agreed(c, b);
	if (!c->doubt)
		place_by_owners(c);
	for (uint64_t b = 0; b < c->btt->nr_blocks && !c->doubt; b++)
		if (!c->placed[b])
			place_by_map(c, b);
	for (uint64_t b = 0; b < c->btt->nr_blocks; b++)
		if (!c->placed[b])
			place(c, b, take_free(c, &next), 0, ZD_BTT_LOST, c->max_gen + 1);
	if (c->damaged)
		give_to_lanes(c, next);
	if (c->nr_rebuilt)
		zd_btt_check_say(c, "the places of %llu blocks are known from what is left",
				 (unsigned long long)c->nr_rebuilt);
	say_all_lost(c);
}
