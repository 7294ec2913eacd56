/* SPDX-License-Identifier: MIT */
/* A forked child gets the entries of its parent. */
#ifndef ZD_ENGINE_FORK_H
#define ZD_ENGINE_FORK_H

#include "engine/mm.h"

/* @child shares the ranges and device pages that @parent has now.  Of one that can't
 * be served the host hears that it died. */
void zd_mm_born(struct zd_mm *parent, struct zd_mm *child);

#endif
