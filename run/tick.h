/* SPDX-License-Identifier: MIT */
/* What the supervisor does from time to time. */
#ifndef ZD_RUN_TICK_H
#define ZD_RUN_TICK_H

struct run;

/* Do what is due.  Server's thread, between two polls.  Returns ms until the next time. */
int tick(struct run *run);

/* The scout's scout_start() callback; @ctx: the struct run. */
void tick_survey_made(void *ctx);

#endif
