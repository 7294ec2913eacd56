/* SPDX-License-Identifier: MIT */
/* Looking for pages that are in RAM and in no queue. */
#ifndef ZD_RUN_PATROL_H
#define ZD_RUN_PATROL_H

#include <stdint.h>

struct run;

/* One step, if RAM is short and no rest is due.  Server's thread. */
void patrol(struct run *run, uint64_t now);

#endif
