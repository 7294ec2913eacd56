/* SPDX-License-Identifier: MIT */
/*
 * Groups of changes: two changes are of one group if they touch the same places, also by
 * way of others.  Changes of different groups commute.  Plain data, no context.
 */
#ifndef ZD_ENGINE_CHANGE_GROUP_H
#define ZD_ENGINE_CHANGE_GROUP_H

#include "engine/change.h"

/* A place that a change touches. */
struct zd_change_touch {
	uint64_t start, end;
	uint32_t change;
};

/* Set each change's group.  @touch: room for two of each change. */
void zd_changes_group(struct zd_change *changes, unsigned int nr, struct zd_change_touch *touch);

/* The group of change @i: the index of its first member.  After zd_changes_group(). */
uint32_t zd_change_group(struct zd_change *changes, uint32_t i);

#endif
