/* SPDX-License-Identifier: MIT */
/* tools/stat_text.h - how runs stand, in words and tables (zonedev stat). */
#ifndef ZD_TOOLS_STAT_TEXT_H
#define ZD_TOOLS_STAT_TEXT_H

#include <jansson.h>

/* stat_list - all of @runs, an array: a line each. */
void stat_list(json_t *runs);

/* stat_one - @run, with rates since @before, which is @seconds old; NULL: since the run's start. */
void stat_one(json_t *run, json_t *before, double seconds);

#endif
