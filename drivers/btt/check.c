/* SPDX-License-Identifier: MIT */
/*
 * All of a BTT against all of it: which pages of its tables are not what was written there
 * last, and then where each block is.
 *
 * Of a region that was closed the sums of the pages say which are bad.  Of any other the tables
 * do, by what they say of each other: check_lanes.c and check_pages.c.  What follows from that
 * is resolve.c's.
 */
#include <errno.h>

#include "base/alloc.h"
#include "drivers/btt/page_sums.h"
#include "drivers/btt/tables.h"

/* Find out which pages and lanes are bad, and what can be relied on. */
static void find_damage(struct zd_btt_check *c)
{
	bool bad_map = false;

	zd_btt_check_lanes(c);
	zd_btt_check_find_whole(c);
	/* twice: the second time with what the first one has found out about the lanes */
	zd_btt_check_pages(c);
	zd_btt_check_torn_lanes(c);
	zd_btt_check_pages(c);
	if (c->damaged && !c->exact)
		zd_btt_check_contents(c);
	for (uint64_t d = 0; d < zd_btt_nr_data(c->btt); d++)
		c->bad_owners |= *zd_btt_check_owner_page(c, d);
	for (uint64_t b = 0; b < c->btt->nr_blocks; b++)
		bad_map |= *zd_btt_check_map_page(c, b);
	c->doubt = !c->exact && bad_map + c->bad_owners + zd_btt_check_log_is_damaged(c) +
						(c->btt->info.closed == 1) >
					1;
}

static void say_pages(const struct zd_btt_check *c, const char *what, uint64_t from, uint64_t to)
{
	uint64_t nr = 0, first = 0;

	for (uint64_t off = from; off < to; off += ZD_PAGE_SIZE)
		if (*zd_btt_check_page(c, off) && !nr++)
			first = off;
	if (nr)
		zd_btt_check_say(c, "%llu of %llu pages of its %s %s (the first at byte %llu)",
				 (unsigned long long)nr,
				 (unsigned long long)(to - from) / ZD_PAGE_SIZE, what,
				 c->exact ? "are damaged" : "contradict others",
				 (unsigned long long)first);
}

/* One thread, with the region to itself; blocks. */
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
	rc = zd_btt_check_load(c);
	if (rc) {
		zd_btt_check_free(c);
		return rc;
	}
	find_damage(c);
	say_pages(c, "map", info->map_off, info->owner_off);
	say_pages(c, "owners", info->owner_off, info->flog_off);
	say_pages(c, "log", info->flog_off, info->sums_off);
	/* What is left of the log tells of writes that neither map nor owners have, and a part of
	 * the log is missing: map and owners may be of one earlier moment, and agree. */
	c->hopeless = !c->exact && c->log.nr_lost && c->nr_usual;
	if (c->hopeless)
		zd_btt_check_say(
			c,
			"its map, owners and log are of different times: nobody can tell which blocks are old. Restore it from a copy");
	else
		zd_btt_check_resolve(c);
	*out = c;
	return 0;
}

bool zd_btt_check_is_damaged(const struct zd_btt_check *c)
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

bool zd_btt_check_is_hopeless(const struct zd_btt_check *c)
{
	return c->hopeless;
}
