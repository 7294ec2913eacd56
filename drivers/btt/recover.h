/* SPDX-License-Identifier: MIT */
/* drivers/btt/recover.h - between reading a BTT's info block and using it. */
#ifndef ZD_DRIVERS_BTT_RECOVER_H
#define ZD_DRIVERS_BTT_RECOVER_H

#include "drivers/btt/btt.h"

/* zd_btt_start - see that the tables are right, do again what an interrupted request has left,
 * and set the lanes.  0; -EUCLEAN: damaged; -EROFS: there is something to do again, and the
 * media are read-only; -errno.  The BTT is in use by no other thread.  Blocks. */
int zd_btt_start(struct zd_btt *btt);

#endif
