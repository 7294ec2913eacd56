/* SPDX-License-Identifier: MIT */
/* What the scout does in its thread; scout.h has the rest. */
#ifndef ZD_RUN_SURVEY_H
#define ZD_RUN_SURVEY_H

#include "run/scout.h"

void survey_make(struct survey *s);
void survey_close(struct survey *s);

#endif
