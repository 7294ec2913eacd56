/* SPDX-License-Identifier: MIT */
/*
 * drivers/btt/check.h - what btt/check.c finds out and btt/mend.c puts right.  Only those
 * two.
 */
#ifndef ZD_DRIVERS_BTT_CHECK_H
#define ZD_DRIVERS_BTT_CHECK_H

#include "drivers/btt/btt.h"

#define ZD_BTT_NOBODY	UINT32_MAX	/* a data block's */
#define ZD_BTT_A_LANE	(UINT32_MAX - 1)

struct zd_btt_check {
	struct zd_btt *btt;
	struct zd_btt_log log;
	/* All of the map, and of the owners: first as on the media, then as it must be. */
	uint64_t *map;
	struct zd_btt_owner *own;
	uint8_t *settled;		/* a flag for each block: the two are right */
	uint32_t *newest;		/* btt/mend.c's */
	uint32_t *claim;		/* whose each data block is; else NOBODY, A_LANE */
	/* A flag for each page of map, owners and flog: not as it was written last, or so it
	 * seems. */
	uint8_t *bad_page;
	bool exact;			/* by the sums of the pages: no doubt */
	/* Of all data blocks that are no lane's each is named once: by the map; by the owners,
	 * for one block each; and has the content for it, where the two differ. */
	bool map_whole, owners_whole;
	bool bad_owners;		/* any page of the owners is bad */
	/* Not exact, and two of map, owners, log and sums are damaged: then what isn't known to
	 * be bad may be old all the same. */
	bool doubt;
	bool damaged;			/* beyond what an interrupted request leaves */
	bool lanes_known;		/* all that are free, that is */
	bool hopeless;			/* all of it may be old: nothing is put right */
	uint64_t max_gen;		/* of all there is */
	uint64_t nr_usual, nr_lost, nr_rebuilt;
	void (*say)(void *arg, const char *line);
	void *arg;
};

__attribute__((format(printf, 2, 3)))
void zd_btt_check_say(const struct zd_btt_check *c, const char *fmt, ...);
/* The flag of the page with the block's map entry; with the data block's owner. */
uint8_t *zd_btt_check_map_page(const struct zd_btt_check *c, uint64_t block);
uint8_t *zd_btt_check_owner_page(const struct zd_btt_check *c, uint64_t at);
/* The map's entry that the owner of a data block implies. */
uint64_t zd_btt_check_implied(const struct zd_btt_check *c, uint32_t at);
/* Has the entry's data block its content?  True, too, where it needs none. */
bool zd_btt_check_content(const struct zd_btt_check *c, uint64_t block, uint64_t entry);
/* Settle every block, as found or as lost. */
void zd_btt_check_resolve(struct zd_btt_check *c);

#endif
