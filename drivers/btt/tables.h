/* SPDX-License-Identifier: MIT */
/*
 * drivers/btt/tables.h - all of a BTT's tables in memory, and what a check has found out about
 * them: check.c and its parts find which pages are wrong, resolve.c where each block is, mend.c
 * stores that.  One thread; the BTT is not in use.
 */
#ifndef ZD_DRIVERS_BTT_TABLES_H
#define ZD_DRIVERS_BTT_TABLES_H

#include "drivers/btt/check.h"
#include "drivers/btt/flog.h"

/* In @claim, in place of a block. */
#define ZD_BTT_NOBODY	UINT32_MAX
#define ZD_BTT_A_LANE	(UINT32_MAX - 1)

struct zd_btt_check {
	struct zd_btt *btt;
	struct zd_btt_log log;
	/* All of the map, and of the owners: first as on the media, then as it must be. */
	uint64_t *map;
	struct zd_btt_owner *own;
	uint8_t *placed;		/* a flag for each block: both are as they must be */
	uint32_t *newest;		/* check_pages.c's, resolve.c's */
	uint32_t *claim;		/* which block has each data block; or NOBODY, A_LANE */
	/* A flag for each page of map, owners and flog: the page isn't as it was written last,
	 * or seems not to be. */
	uint8_t *bad_page;
	bool exact;			/* @bad_page is by the sums of the pages: no doubt */
	/* Every data block that is no lane's is named once: by the map; by the owners, for one
	 * block each; and has the content for it, where the two differ. */
	bool map_whole, owners_whole;
	bool bad_owners;		/* any page of the owners is bad */
	/* Not exact, and two of map, owners, log and sums are damaged: then what isn't known to
	 * be bad may be old all the same. */
	bool doubt;
	bool damaged;			/* beyond what an interrupted request leaves */
	bool lanes_known;		/* it is known which data blocks are free */
	bool hopeless;			/* all of it may be old: nothing is put right */
	uint64_t max_gen;		/* of map, owners and log */
	uint64_t nr_usual, nr_lost, nr_rebuilt;
	void (*say)(void *arg, const char *line);
	void *arg;
};

/* --- tables.c --- */

/* What can't be read is as zeros, in a page that is flagged.  0; -errno. */
int zd_btt_check_load(struct zd_btt_check *c);
__attribute__((format(printf, 2, 3)))
void zd_btt_check_say(const struct zd_btt_check *c, const char *fmt, ...);
/* The flag of the page at this byte; with the block's map entry; with the data block's owner. */
uint8_t *zd_btt_check_page(const struct zd_btt_check *c, uint64_t off);
uint8_t *zd_btt_check_map_page(const struct zd_btt_check *c, uint64_t block);
uint8_t *zd_btt_check_owner_page(const struct zd_btt_check *c, uint64_t at);
/* The map's entry that the owner of a data block implies. */
uint64_t zd_btt_check_implied(const struct zd_btt_check *c, uint32_t at);
/* Has the entry's data block its content?  True, too, where it needs none. */
bool zd_btt_check_content(const struct zd_btt_check *c, uint64_t block, uint64_t entry);
/* Do the block's entry and the owner of its data block tell of the same? */
bool zd_btt_check_agrees(const struct zd_btt_check *c, uint64_t block);
bool zd_btt_check_owner_is_valid(const struct zd_btt_check *c, uint64_t at);

/* --- check_lanes.c --- */

/* Which lanes' slots are lost or old, and which data blocks are free. */
void zd_btt_check_lanes(struct zd_btt_check *c);
/* The lanes with one valid half: when the owners' pages have been looked at. */
void zd_btt_check_torn_lanes(struct zd_btt_check *c);
/* Or a request was cut off: the log isn't relied on then. */
bool zd_btt_check_log_is_damaged(const struct zd_btt_check *c);

/* --- check_pages.c --- */

/* Sets @map_whole, @owners_whole. */
void zd_btt_check_find_whole(struct zd_btt_check *c);
/* Flags the pages that others contradict. */
void zd_btt_check_pages(struct zd_btt_check *c);
/* And those that the content contradicts. */
void zd_btt_check_contents(struct zd_btt_check *c);

/* --- resolve.c --- */

/* Place every block, as found or as lost. */
void zd_btt_check_resolve(struct zd_btt_check *c);

#endif
