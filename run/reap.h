/* SPDX-License-Identifier: MIT */
/* Processes whose end is near or has come. */
#ifndef ZD_RUN_REAP_H
#define ZD_RUN_REAP_H

#include <stdbool.h>

struct run;

/* Free the processes that are gone, and do what is due for those that may be about to go.
 * Server's thread, between two polls. */
void reap_processes(struct run *run);

/* Is there any process whose end is near, that is, worth another look soon? */
bool reap_is_near(const struct run *run);

#endif
