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

/* A page is bad, unless the sums have told already which are. */
static void suspect(struct zd_btt_check *c, uint8_t *page)
{
	c->damaged = true;
	if (!c->exact)
		*page = 1;
}

/* A table that is whole by itself, and fits the lanes, isn't old: the other table is.  Unless both
 * are whole: then either may be old. */
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

/* Is the entry the block's, though the owner differs?  The content's checksum tells; of zeros,
 * which have no content, it can't be told. */
static bool entry_is_own(const struct zd_btt_check *c, uint64_t block)
{
	uint64_t entry = c->map[block];

	return zd_btt_check_agrees(c, block) ||
	       (zd_btt_kind(entry) == ZD_BTT_DATA && zd_btt_check_content(c, block, entry));
}

/* Is the owner that of the block that it names, though the entry differs? */
static bool owner_is_own(const struct zd_btt_check *c, uint32_t at)
{
	uint32_t block = c->own[at].what;

	return (zd_btt_data_block(c->map[block]) == at && zd_btt_check_agrees(c, block)) ||
	       zd_btt_check_content(c, block, zd_btt_check_implied(c, at));
}

/* Sets @map_whole and @owners_whole.  Here @newest is a flag for each block: an owner names it. */
void zd_btt_check_find_whole(struct zd_btt_check *c)
{
	uint64_t nr = c->btt->nr_blocks, named = 0, owned = 0;

	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++) {
		uint32_t block = c->own[d].what;

		if (c->claim[d] == ZD_BTT_A_LANE || !zd_btt_check_owner_is_valid(c, d) ||
		    block >= nr || c->newest[block] || !owner_is_own(c, d))
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
	/* if the log is damaged, too, the lanes may fit a table that is old */
	c->map_whole = named == nr && !zd_btt_check_log_is_damaged(c) && !c->btt->info.closed;
	c->owners_whole = owned == nr && !zd_btt_check_log_is_damaged(c) && !c->btt->info.closed;
}

/* The block's entry and the owner of its data block disagree: which of the two is wrong? */
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
	if (other != block && other < c->btt->nr_blocks && zd_btt_data_block(c->map[other]) == at &&
	    zd_btt_check_agrees(c, other))
		return;
	/* a lane's data block keeps its last owner: an entry that still names it is old, and the
	 * owner may be right */
	if (c->claim[at] != ZD_BTT_A_LANE)
		suspect_owners(c, at);
}

/* By the map the owner's block is in another data block: is the map old, or the owner? */
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

	if (!zd_btt_check_owner_is_valid(c, at) ||
	    (c->lanes_known && block >= c->btt->nr_blocks && c->claim[at] != ZD_BTT_A_LANE))
		suspect_owners(c, at);
	else if (block < c->btt->nr_blocks && c->claim[at] != ZD_BTT_A_LANE &&
		 zd_btt_data_block(c->map[block]) != at)
		suspect_owner(c, at);
}

/* By the flog neither map nor owner are up to date; but the map doesn't have the entry from before
 * that write, either: then both may be old. */
static void check_redo(struct zd_btt_check *c, const struct zd_btt_redo *r)
{
	if (r->odd)
		suspect_owners(c, r->at);
}

/* The thread that checks. */
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
 * Where the page of the other table is gone nothing there contradicts a page.  But in a page that
 * is old some entry has the checksum of another content than its data block has now.
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

		if (!zd_btt_check_owner_is_valid(c, d) || block >= c->btt->nr_blocks ||
		    zd_btt_check_agrees(c, block) || c->claim[d] == ZD_BTT_A_LANE)
			continue;
		if (!zd_btt_check_content(c, block, zd_btt_check_implied(c, d)))
			suspect_owners(c, d);
	}
}
