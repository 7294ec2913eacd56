/* SPDX-License-Identifier: MIT */
/*
 * The log of an address space's changes: events are kept until they can be followed.  The
 * server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_CHANGES_H
#define ZD_ENGINE_CHANGES_H

#include "engine/change.h"
#include "engine/mm.h"

/* An event has been read: log it.  Nothing else is done before @mm is still. */
void zd_mm_log_change(struct zd_mm *mm, const struct zd_change *change);

/*
 * Follow the log, if all changes that were made have been heard.  True: they have, and
 * entries are what the address space is.
 */
bool zd_mm_catch_up(struct zd_mm *mm);
/* The same for all that have a log.  True: none has one any more. */
bool zd_mms_catch_up(struct zd_server *server);

/* Events are going to be read, or have been: until then mm->behind is set. */
void zd_mm_set_behind(struct zd_mm *mm, bool reading);

/* The address space has ended: follow what was heard, for the sake of its children. */
void zd_mm_end_log(struct zd_mm *mm);
/* @child, unborn, is destroyed: its parent's log must not name it any more. */
void zd_changes_forget_child(struct zd_mm *child);

#endif
