/* SPDX-License-Identifier: MIT */
/* What happened, or how it stands, as a JSON object; zonedev-run(1) lists its keys. */
#ifndef ZD_RUN_REPORT_JSON_H
#define ZD_RUN_REPORT_JSON_H

#include <jansson.h>

struct run;

/* All by the thread that serves.  The object is the caller's; NULL: out of memory. */

/* report_json - the report. */
json_t *report_json(struct run *run);
/* report_json_live - and what only a run that goes on has: "pid", "resident", "pids". */
json_t *report_json_live(struct run *run);

/* report_latency_us - of faults: the quantile @q. */
double report_latency_us(const struct run *run, double q);
/* report_seconds - since the program's start; until CMD's end, once it has ended. */
double report_seconds(const struct run *run);

#endif
