/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a BTT's tables are not what was written there last, by what the tables say of
 * each other, after what the flog has left to do is done:
 *
 *	an owner that isn't valid		its page is bad
 *	a map entry that can't be one		its page is bad
 *	entry and owner disagree		the entry's page, if the owner is another
 *						block's that agrees; else both pages
 *	a block has a lane's data block		by their generations, the lane's slot is
 *						old, or the map's page is
 */
#include "drivers/btt/entry.h"
#include "drivers/btt/tables.h"

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

	return zd_btt_check_agrees(c, block) || (zd_btt_kind(entry) == ZD_BTT_DATA &&
				    zd_btt_check_content(c, block, entry));
}

static bool owner_is_own(const struct zd_btt_check *c, uint32_t at)
{
	uint32_t block = c->own[at].what;

	return (zd_btt_data_block(c->map[block]) == at && zd_btt_check_agrees(c, block)) ||
	       zd_btt_check_content(c, block, zd_btt_check_implied(c, at));
}

/* @newest serves as a flag for each block. */
void zd_btt_check_find_whole(struct zd_btt_check *c)
{
	uint64_t nr = c->btt->nr_blocks, named = 0, owned = 0;

	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++) {
		uint32_t block = c->own[d].what;

		if (c->claim[d] == ZD_BTT_A_LANE || !zd_btt_check_owner_is_valid(c, d) || block >= nr ||
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
	c->map_whole = named == nr && !zd_btt_check_log_is_damaged(c) && !c->btt->info.closed;
	c->owners_whole = owned == nr && !zd_btt_check_log_is_damaged(c) && !c->btt->info.closed;
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
	if (!zd_btt_check_owner_is_valid(c, at))
		return;
	suspect_map(c, block);
	other = c->own[at].what;
	if (other != block && other < c->btt->nr_blocks &&
	    zd_btt_data_block(c->map[other]) == at && zd_btt_check_agrees(c, other))
		return;
	/* a lane's keeps its last owner's name: a block that still names it is old */
	if (c->claim[at] != ZD_BTT_A_LANE)
		suspect_owners(c, at);
}

/* The owner's block is elsewhere: which of the two is old? */
static void suspect_owner(struct zd_btt_check *c, uint32_t at)
{
	uint32_t block = c->own[at].what, other = zd_btt_data_block(c->map[block]);

	if (!zd_btt_check_agrees(c, block)) {
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

	if (!zd_btt_check_owner_is_valid(c, at) || (c->lanes_known && block >= c->btt->nr_blocks &&
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

void zd_btt_check_pages(struct zd_btt_check *c)
{
	for (uint32_t i = 0; i < c->log.nr_redo; i++)
		check_redo(c, &c->log.redo[i]);
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++)
		check_owner(c, d);
	for (uint64_t b = 0; b < c->btt->nr_blocks; b++)
		if (!zd_btt_check_agrees(c, b))
			suspect_entry(c, b);
		else if (c->claim[zd_btt_data_block(c->map[b])] == ZD_BTT_A_LANE)
			suspect_map(c, b);
}

/*
 * Where the other table is gone nothing contradicts a page.  But one that is old tells, of
 * some block, what the content isn't.
 */
void zd_btt_check_contents(struct zd_btt_check *c)
{
	for (uint64_t b = 0; b < c->btt->nr_blocks; b++) {
		uint64_t entry = c->map[b];
		uint32_t at = zd_btt_data_block(entry);

		if (!zd_btt_is_entry(c->btt, entry) || zd_btt_check_owner_is_valid(c, at))
			continue;
		if (c->claim[at] == ZD_BTT_A_LANE || !zd_btt_check_content(c, b, entry))
			suspect_map(c, b);
	}
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++) {
		uint32_t block = c->own[d].what;

		if (!zd_btt_check_owner_is_valid(c, d) || block >= c->btt->nr_blocks || zd_btt_check_agrees(c, block) ||
		    c->claim[d] == ZD_BTT_A_LANE)
			continue;
		if (!zd_btt_check_content(c, block, zd_btt_check_implied(c, d)))
			suspect_owners(c, d);
	}
}
