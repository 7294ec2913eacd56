/* SPDX-License-Identifier: MIT */
/*
 * Going on in a copy of this process.
 *
 * When CMD ends while processes that it left behind live on (daemons), the shell must get its
 * status, and they must be served: the supervisor forks, one half reports and exits, the other
 * goes on in the background, and writes the report once more when the last of them has ended.
 *
 * Under a limit of CPU time the supervisor forks as well, and the copy, which has used no time
 * yet, goes on (front.h).
 */
#ifndef ZD_RUN_BACKGROUND_H
#define ZD_RUN_BACKGROUND_H

#include <stdbool.h>
#include <stdint.h>

struct run;

#define LINGER_NS	300000000ull	/* after CMD, for children about to end */

/* All in the thread that serves, between two polls. */

/* Has CMD ended, long enough ago, and left processes behind? */
bool background_is_due(struct run *run, uint64_t now);

/* Can this process be forked now?  False: evictions are held until it can. */
bool background_is_ready(struct run *run);

/* Returns in both halves; true in the one that is to report and to exit.  False also when the
 * fork has failed: try again later. */
bool background_detach(struct run *run);

/* Returns in the copy, or when the fork has failed. */
void background_hand_over(struct run *run);

#endif
