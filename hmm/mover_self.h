/* SPDX-License-Identifier: MIT */
/* The mover of a program that links zonedev: the server is a thread of the process. */
#ifndef ZD_HMM_MOVER_SELF_H
#define ZD_HMM_MOVER_SELF_H

#include "base/lock.h"
#include "engine/mm.h"

/* Give @mm (of this process) its staging and its mover.  0 or -errno. */
int zd_mover_self_init(struct zd_mm *mm);

/* From now on a thread that waits for @done, which isn't done yet, empties staging; NULL: no
 * thread does.  The server's thread. */
void zd_mover_self_help_by(struct zd_mm *mm, struct zd_completion *done);
/* Wait for @done, and empty staging meanwhile.  A thread of the program, without locks;
 * blocks. */
void zd_mover_self_help(struct zd_mm *mm, struct zd_completion *done);

#endif
