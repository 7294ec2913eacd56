/* SPDX-License-Identifier: MIT */
/* The mover of library use: the server is part of the process. */
#ifndef ZD_HMM_MOVER_SELF_H
#define ZD_HMM_MOVER_SELF_H

#include "base/lock.h"
#include "engine/mm.h"

/* Give @mm (of this process) its staging and its mover.  0 or -errno. */
int zd_mover_self_init(struct zd_mm *mm);

/* Server's thread: from now on who waits for @done, which isn't done, helps; NULL:
 * nobody. */
void zd_mover_self_help_by(struct zd_mm *mm, struct zd_completion *done);
/* Wait for @done, and free pages that have moved meanwhile.  Any thread. */
void zd_mover_self_help(struct zd_mm *mm, struct zd_completion *done);

#endif
