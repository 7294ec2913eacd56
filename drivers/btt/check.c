/* SPDX-License-Identifier: MIT */
/*
 * All of a BTT against all of it: which pages of its tables are not what was written there
 * last.
 *
 * Of a region that was closed the sums of the pages say so.  Of another the tables do, by
 * what they say of each other, after what the flog has left to do is done:
 *
 *	an owner that isn't valid		its page is bad
 *	a map entry that can't be one		its page is bad
 *	entry and owner disagree		the entry's page, if the owner is another
 *						block's that agrees; else both pages
 *	a block has a lane's data block		by their generations, the lane's slot is
 *						old, or the map's page is
 *	an owner is newer than the flog		the flog is old
 *
 * What follows from it is btt/mend.c's.
 */
#include "drivers/btt/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

void zd_btt_check_say(const struct zd_btt_check *c, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (!c->say)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->say(c->arg, line);
}

static uint8_t *page_at(const struct zd_btt_check *c, uint64_t off)
{
	return &c->bad_page[(off - c->btt->info.map_off) / ZD_PAGE_SIZE];
}

uint8_t *zd_btt_check_map_page(const struct zd_btt_check *c, uint64_t block)
{
	return page_at(c, zd_btt_map_off(c->btt, block));
}

uint8_t *zd_btt_check_owner_page(const struct zd_btt_check *c, uint64_t at)
{
	return page_at(c, zd_btt_owner_off(c->btt, at));
}

/* --- as on the media --- */

/* What can't be read is as if it were zeros. */
static void load(struct zd_btt_check *c, uint64_t off, void *to, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += ZD_PAGE_SIZE) {
		uint64_t n = len - i < ZD_PAGE_SIZE ? len - i : ZD_PAGE_SIZE;
		struct iovec iov = { (char *)to + i, n };
		struct zd_iter it = { .iov = &iov, .nr = 1 };
		uint64_t bad;

		if (!zd_media_read(c->btt->m, off + i, &it, n, &bad))
			continue;
		memset((char *)to + i, 0, n);
		*page_at(c, off + i) = 1;
		c->damaged = true;
	}
}

static int alloc_all(struct zd_btt_check *c)
{
	uint64_t nr = c->btt->nr_blocks, data = zd_btt_nr_data(c->btt);

	c->map = zd_alloc(nr * sizeof(c->map[0]));
	c->own = zd_alloc(data * sizeof(c->own[0]));
	c->settled = zd_alloc(nr);
	c->newest = zd_alloc(nr * sizeof(c->newest[0]));
	c->claim = zd_alloc(data * sizeof(c->claim[0]));
	c->bad_page = zd_alloc(zd_btt_nr_pages(c->btt));
	if (!c->map || !c->own || !c->settled || !c->newest || !c->claim ||
	    !c->bad_page)
		return -ENOMEM;
	memset(c->claim, 0xff, data * sizeof(c->claim[0]));
	return 0;
}

static int load_all(struct zd_btt_check *c)
{
	struct zd_btt *btt = c->btt;
	uint64_t nr_bad, bad;
	int rc = zd_btt_bad_pages(btt, c->bad_page, &nr_bad);

	if (rc < 0)
		return rc;
	c->exact = !rc;
	c->damaged = c->exact ? nr_bad > 0 : btt->info.closed;
	if (!c->exact && btt->info.closed)
		zd_btt_check_say(c, "the sums of its pages are broken");
	load(c, btt->info.map_off, c->map, btt->nr_blocks * sizeof(c->map[0]));
	load(c, btt->info.owner_off, c->own, zd_btt_nr_data(btt) * sizeof(c->own[0]));
	rc = zd_btt_read_log(btt, c->exact ? c->bad_page : NULL, &c->log);
	if (!rc && zd_media_check_end(btt->m, 0, btt->m->bytes, &bad))
		rc = -EIO;
	/* one that was closed has nothing left to do */
	for (uint32_t i = 0; i < c->log.nr_redo && !rc && !c->exact; i++) {
		const struct zd_btt_redo *r = &c->log.redo[i];

		c->nr_usual += r->changed;
		c->map[r->block] = r->entry;
		c->own[r->at] = r->owner;
	}
	return rc;
}

static bool agrees(const struct zd_btt_check *c, uint64_t block)
{
	uint64_t entry = c->map[block];

	return zd_btt_is_entry(c->btt, entry) &&
	       zd_btt_agree(c->btt, block, entry, &c->own[zd_btt_data_block(entry)]) !=
		       ZD_BTT_NONE;
}

/* --- lanes --- */

static bool owner_is_valid(const struct zd_btt_check *c, uint64_t at)
{
	return zd_btt_owner_is_valid(c->btt, &c->own[at], at);
}

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

static void find_max_gen(struct zd_btt_check *c)
{
	bool old = c->log.max_gen < c->btt->info.closed_gen;

	c->max_gen = old ? c->btt->info.closed_gen : c->log.max_gen;
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++) {
		uint64_t gen = zd_btt_owner_gen(&c->own[d]);

		if (!owner_is_valid(c, d) || gen <= c->log.max_gen ||
		    (c->exact && *zd_btt_check_owner_page(c, d)))
			continue;
		if (gen > c->max_gen)
			c->max_gen = gen;
		old |= !*zd_btt_check_owner_page(c, d);
	}
	/* the region has seen more than the flog tells of */
	for (uint32_t i = 0; i < c->btt->nr_lanes && old; i++)
		lose_lane(c, i);
}

static void check_lanes(struct zd_btt_check *c)
{
	uint32_t nr = c->btt->nr_lanes;

	find_max_gen(c);
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t at = lane_free(c, i);

		if (c->log.state[i] == ZD_BTT_LANE_TORN && c->btt->info.closed)
			lose_lane(c, i);
		if (c->log.state[i] == ZD_BTT_LANE_LOST)
			continue;
		/* it was written after the lane got it: the slot is old */
		if (owner_is_valid(c, at) && !(c->exact && *zd_btt_check_owner_page(c, at)) &&
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

/* --- pages --- */

static void suspect(struct zd_btt_check *c, uint8_t *page)
{
	c->damaged = true;
	if (!c->exact)
		*page = 1;
}

/* What is whole by itself, and fits the lanes, is not old; unless the other one is, too. */
static void suspect_map(struct zd_btt_check *c, uint64_t block)
{
	c->damaged = true;
	if (!c->map_whole || c->owners_whole)
		suspect(c, zd_btt_check_map_page(c, block));
}

static void suspect_owners(struct zd_btt_check *c, uint64_t at)
{
	c->damaged = true;
	if (!c->owners_whole || c->map_whole)
		suspect(c, zd_btt_check_owner_page(c, at));
}

/* Where the two differ: is the entry the block's, and not another's?  Of zeros, which have
 * no content, nobody can tell. */
static bool entry_is_own(const struct zd_btt_check *c, uint64_t block)
{
	uint64_t entry = c->map[block];

	return agrees(c, block) || (zd_btt_kind(entry) == ZD_BTT_DATA &&
				    zd_btt_check_content(c, block, entry));
}

static bool owner_is_own(const struct zd_btt_check *c, uint32_t at)
{
	uint32_t block = c->own[at].what;

	return (zd_btt_data_block(c->map[block]) == at && agrees(c, block)) ||
	       zd_btt_check_content(c, block, zd_btt_check_implied(c, at));
}

/* Or a request was cut off: it isn't relied on then. */
static bool log_is_damaged(const struct zd_btt_check *c)
{
	return c->log.nr_mended || c->log.nr_torn || c->log.nr_lost;
}

/* @newest serves as a flag for each block. */
static void find_whole(struct zd_btt_check *c)
{
	uint64_t nr = c->btt->nr_blocks, named = 0, owned = 0;

	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++) {
		uint32_t block = c->own[d].what;

		if (c->claim[d] == ZD_BTT_A_LANE || !owner_is_valid(c, d) || block >= nr ||
		    c->newest[block] || !owner_is_own(c, d))
			continue;
		c->newest[block] = 1;
		owned++;
	}
	for (uint64_t b = 0; b < nr; b++) {
		uint32_t at = zd_btt_data_block(c->map[b]);

		if (!zd_btt_is_entry(c->btt, c->map[b]) || c->claim[at] != ZD_BTT_NOBODY ||
		    !entry_is_own(c, b))
			continue;
		c->claim[at] = b;
		named++;
	}
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++)
		if (c->claim[d] != ZD_BTT_A_LANE)
			c->claim[d] = ZD_BTT_NOBODY;
	/* a log that is damaged, too, may fit what is old */
	c->map_whole = named == nr && !log_is_damaged(c) && !c->btt->info.closed;
	c->owners_whole = owned == nr && !log_is_damaged(c) && !c->btt->info.closed;
}

/* Entry and owner aren't of the same: which of the two is wrong? */
static void suspect_entry(struct zd_btt_check *c, uint64_t block)
{
	uint64_t entry = c->map[block];
	uint32_t at = zd_btt_data_block(entry), other;

	c->damaged = true;
	if (!zd_btt_is_entry(c->btt, entry)) {
		suspect_map(c, block);
		return;
	}
	if (!owner_is_valid(c, at))
		return;
	suspect_map(c, block);
	other = c->own[at].what;
	if (other != block && other < c->btt->nr_blocks &&
	    zd_btt_data_block(c->map[other]) == at && agrees(c, other))
		return;
	/* a lane's keeps its last owner's name: a block that still names it is old */
	if (c->claim[at] != ZD_BTT_A_LANE)
		suspect_owners(c, at);
}

/* The owner's block is elsewhere: which of the two is old? */
static void suspect_owner(struct zd_btt_check *c, uint32_t at)
{
	uint32_t block = c->own[at].what, other = zd_btt_data_block(c->map[block]);

	if (!agrees(c, block)) {
		if (c->lanes_known)
			suspect_map(c, block);
		return;
	}
	if (zd_btt_owner_gen(&c->own[at]) > zd_btt_owner_gen(&c->own[other])) {
		suspect_map(c, block);
		suspect_owners(c, other);
	} else if (c->lanes_known) {
		suspect_owners(c, at);
	}
}

static void check_owner(struct zd_btt_check *c, uint32_t at)
{
	uint32_t block = c->own[at].what;

	if (!owner_is_valid(c, at) || (c->lanes_known && block >= c->btt->nr_blocks &&
				       c->claim[at] != ZD_BTT_A_LANE))
		suspect_owners(c, at);
	else if (block < c->btt->nr_blocks && c->claim[at] != ZD_BTT_A_LANE &&
		 zd_btt_data_block(c->map[block]) != at)
		suspect_owner(c, at);
}

/* The flog has it that the map isn't up to date, and the owner, too; but the map isn't as
 * it was before: then it may be both that are old. */
static void check_redo(struct zd_btt_check *c, const struct zd_btt_redo *r)
{
	if (r->odd)
		suspect_owners(c, r->at);
}

static void check_pages(struct zd_btt_check *c)
{
	for (uint32_t i = 0; i < c->log.nr_redo; i++)
		check_redo(c, &c->log.redo[i]);
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++)
		check_owner(c, d);
	for (uint64_t b = 0; b < c->btt->nr_blocks; b++)
		if (!agrees(c, b))
			suspect_entry(c, b);
		else if (c->claim[zd_btt_data_block(c->map[b])] == ZD_BTT_A_LANE)
			suspect_map(c, b);
}

/* A lane with one half left: that may be the older. Only the owner of what it has tells. */
static void check_torn(struct zd_btt_check *c)
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

/*
 * Where the other table is gone nothing contradicts a page.  But one that is old tells, of
 * some block, what the content isn't.
 */
static void check_contents(struct zd_btt_check *c)
{
	for (uint64_t b = 0; b < c->btt->nr_blocks; b++) {
		uint64_t entry = c->map[b];
		uint32_t at = zd_btt_data_block(entry);

		if (!zd_btt_is_entry(c->btt, entry) || owner_is_valid(c, at))
			continue;
		if (c->claim[at] == ZD_BTT_A_LANE || !zd_btt_check_content(c, b, entry))
			suspect_map(c, b);
	}
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++) {
		uint32_t block = c->own[d].what;

		if (!owner_is_valid(c, d) || block >= c->btt->nr_blocks || agrees(c, block) ||
		    c->claim[d] == ZD_BTT_A_LANE)
			continue;
		if (!zd_btt_check_content(c, block, zd_btt_check_implied(c, d)))
			suspect_owners(c, d);
	}
}

static void look(struct zd_btt_check *c)
{
	bool bad_map = false;

	check_lanes(c);
	find_whole(c);
	/* twice: the second time with what the first has found about the lanes */
	check_pages(c);
	check_torn(c);
	check_pages(c);
	if (c->damaged && !c->exact)
		check_contents(c);
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++)
		c->bad_owners |= *zd_btt_check_owner_page(c, d);
	for (uint64_t b = 0; b < c->btt->nr_blocks; b++)
		bad_map |= *zd_btt_check_map_page(c, b);
	c->doubt = !c->exact && bad_map + c->bad_owners + log_is_damaged(c) +
				(c->btt->info.closed == 1) > 1;
}

static void say_pages(const struct zd_btt_check *c, const char *what, uint64_t from, uint64_t to)
{
	uint64_t nr = 0, first = 0;

	for (uint64_t off = from; off < to; off += ZD_PAGE_SIZE)
		if (*page_at(c, off) && !nr++)
			first = off;
	if (nr)
		zd_btt_check_say(c, "%llu of %llu pages of its %s %s (the first at byte %llu)",
				 (unsigned long long)nr,
				 (unsigned long long)(to - from) / ZD_PAGE_SIZE, what,
				 c->exact ? "are damaged" : "contradict others",
				 (unsigned long long)first);
}

int zd_btt_check(struct zd_btt *btt, void (*say)(void *arg, const char *line), void *arg,
		 struct zd_btt_check **out)
{
	struct zd_btt_check *c = zd_alloc(sizeof(*c));
	const struct zd_btt_info_block *info = &btt->info;
	int rc;

	if (!c)
		return -ENOMEM;
	c->btt = btt;
	c->say = say;
	c->arg = arg;
	rc = alloc_all(c);
	if (!rc)
		rc = load_all(c);
	if (rc) {
		zd_btt_check_free(c);
		return rc;
	}
	look(c);
	say_pages(c, "map", info->map_off, info->owner_off);
	say_pages(c, "owners", info->owner_off, info->flog_off);
	say_pages(c, "log", info->flog_off, info->sums_off);
	/* what is left of the log tells of writes that neither map nor owners have, and more of
	 * it is missing: both may be of one earlier moment, and agree */
	c->hopeless = !c->exact && c->log.nr_lost && c->nr_usual;
	if (c->hopeless)
		zd_btt_check_say(c, "its map, owners and log are of different times: nobody can tell which blocks are old. Restore it from a copy");
	else
		zd_btt_check_resolve(c);
	*out = c;
	return 0;
}

void zd_btt_check_free(struct zd_btt_check *c)
{
	zd_btt_free_log(&c->log);
	zd_free(c->bad_page);
	zd_free(c->claim);
	zd_free(c->newest);
	zd_free(c->settled);
	zd_free(c->own);
	zd_free(c->map);
	zd_free(c);
}

int zd_btt_check_damaged(const struct zd_btt_check *c)
{
	return c->damaged;
}

uint64_t zd_btt_check_nr_lost(const struct zd_btt_check *c)
{
	return c->nr_lost;
}

uint64_t zd_btt_check_gen(const struct zd_btt_check *c)
{
	return c->max_gen + (c->damaged ? 1 + c->btt->nr_lanes : 0);
}

bool zd_btt_check_hopeless(const struct zd_btt_check *c)
{
	return c->hopeless;
}
