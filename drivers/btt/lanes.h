/* SPDX-License-Identifier: MIT */
/* drivers/btt/lanes.h - the lanes of a BTT, taken and given back.  Any thread. */
#ifndef ZD_DRIVERS_BTT_LANES_H
#define ZD_DRIVERS_BTT_LANES_H

#include "drivers/btt/btt.h"

/*
 * zd_btt_take_lanes - take up to @nr lanes, at least one; how many, 0: the BTT has failed.
 * Blocks until there is one: the caller has no lane, and no lock.
 * zd_btt_put_lanes - give them back.
 */
uint32_t zd_btt_take_lanes(struct zd_btt *btt, uint32_t nr, uint32_t *lanes);
void zd_btt_put_lanes(struct zd_btt *btt, uint32_t nr, const uint32_t *lanes);

/* zd_btt_fail - a write failed between its steps 2 and 3: from now on no lane can be taken. */
void zd_btt_fail(struct zd_btt *btt);
bool zd_btt_has_failed(const struct zd_btt *btt);

#endif
