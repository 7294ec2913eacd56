/* SPDX-License-Identifier: MIT */
/* What happened: the JSON report, the summary, and the lines of --progress. */
#ifndef ZD_RUN_REPORT_H
#define ZD_RUN_REPORT_H

#include <stdbool.h>

struct run;

/* All by the thread that serves. */

/* Before the program starts, so that there is no surprise at its end.  0 or -errno. */
int report_open(struct run *run);

/* In the end, all that the user has asked for.  0 or -errno: the report could not be
 * written. */
int report_all(struct run *run);
/* The JSON report alone.  0 or -errno. */
int report_write(struct run *run);

/* In the background half: the report is written anew at the end, where that can be. */
void report_background(struct run *run);

/* Every second; @last: at once, and for the last time. */
void report_progress(struct run *run, bool last);

#endif
