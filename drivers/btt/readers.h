/* SPDX-License-Identifier: MIT */
/*
 * drivers/btt/readers.h - which data blocks are being read, so that a writer waits before it
 * overwrites one.
 *
 * A reader takes a slot, announces there the data block that it is about to read, and loads
 * the map's entry again.  If the entry is the same, the data block is the block's, and isn't
 * written before the slot is empty: the writer that gets the data block as its free one looks at
 * all slots before its step 1.  Store, then load, on both sides: the reader stores its slot and
 * loads the map; the writer stores the map (when the data block becomes free) and loads the
 * slots.  Hence the full fences in zd_btt_set_reader() and zd_btt_wait_readers(), which are each
 * other's partners.
 *
 * So a reader waits for no writer, and a writer only for the readers that still read what its
 * free data block had, at most for one copy each.
 */
#ifndef ZD_DRIVERS_BTT_READERS_H
#define ZD_DRIVERS_BTT_READERS_H

#include "drivers/btt/btt.h"

/* zd_btt_take_reader - a slot for this thread; yields the CPU while there is none.  Empty it by
 * zd_btt_set_reader(slot, 0). */
uint32_t *zd_btt_take_reader(struct zd_btt *btt);
/* zd_btt_set_reader - @value: the data block that is read, plus one; 0: the slot is free. */
void zd_btt_set_reader(uint32_t *slot, uint32_t value);
/* zd_btt_wait_readers - until no thread reads any of @nr data blocks that are free.  Blocks. */
void zd_btt_wait_readers(struct zd_btt *btt, const uint32_t *at, uint32_t nr);

#endif
