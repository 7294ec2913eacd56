/* SPDX-License-Identifier: MIT */
/* drivers/btt/flog.h - the flog: what each lane did last. */
#ifndef ZD_DRIVERS_BTT_FLOG_H
#define ZD_DRIVERS_BTT_FLOG_H

#include "drivers/btt/btt.h"

enum zd_btt_lane_state {
	ZD_BTT_LANE_WHOLE,
	ZD_BTT_LANE_TORN,		/* one half isn't valid: was it being written? */
	ZD_BTT_LANE_LOST,		/* what the lane did last isn't known */
};

/* A step 3 that may have to be done again. */
struct zd_btt_redo {
	uint32_t block, at;
	uint64_t entry;			/* as it must be in the map... */
	struct zd_btt_owner owner;	/* ... and data block @at's */
	bool changed;			/* the media don't have both yet */
	bool odd;			/* the owner is old, but the map isn't as before */
};

struct zd_btt_log {
	struct zd_btt_slot *newest;	/* a lane each */
	uint8_t *half, *state;
	struct zd_btt_redo *redo;	/* by generation */
	uint32_t nr_redo, nr_lost, nr_torn, nr_mended;	/* mended: one copy of two is bad */
	uint64_t max_gen;
};

/*
 * zd_btt_read_log - what all lanes did last; zd_btt_free_log() after it.  @bad_page: may be
 * NULL: a flag for each page that has sums; slots in a page that is flagged aren't used.
 * 0 or -ENOMEM.
 * zd_btt_put_newest - store all lanes' newest slots, as they were read: durable.
 * zd_btt_put_older - and then, for a lane whose older slot isn't valid, a blank one.
 *
 * No lane is taken by any thread.  They block.
 */
int zd_btt_read_log(struct zd_btt *btt, const uint8_t *bad_page, struct zd_btt_log *log);
void zd_btt_free_log(struct zd_btt_log *log);
int zd_btt_put_newest(struct zd_btt *btt, const struct zd_btt_log *log);
int zd_btt_put_older(struct zd_btt *btt, const struct zd_btt_log *log);
/* One slot of a lane that the caller has, with its checksum, both copies.  0 or -errno. */
int zd_btt_put_slot(struct zd_btt *btt, uint32_t lane, uint32_t half, struct zd_btt_slot *slot);
/* As a slot is before its lane has written anything. */
struct zd_btt_slot zd_btt_blank_slot(uint32_t free, uint64_t gen, uint64_t prev);

#endif
