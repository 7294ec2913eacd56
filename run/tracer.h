/* SPDX-License-Identifier: MIT */
/* Debuggers: a traced process has its pages at home. */
#ifndef ZD_RUN_TRACER_H
#define ZD_RUN_TRACER_H

#include <stdbool.h>
#include <stdint.h>

struct process;
struct run;

/* Look for a debugger, now and then; while there is one, bring some pages home.  Server's
 * thread; reads /proc/PID/status. */
void tracer_step(struct process *p, uint64_t now);

/* Are pages of any process still to be brought home? */
bool tracer_is_busy(const struct run *run);

#endif
