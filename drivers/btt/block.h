/* SPDX-License-Identifier: MIT */
/* drivers/btt/block.h - one block of a BTT: its lock, its entries, its content. */
#ifndef ZD_DRIVERS_BTT_BLOCK_H
#define ZD_DRIVERS_BTT_BLOCK_H

#include "drivers/btt/btt.h"

struct zd_mutex *zd_btt_group_lock(struct zd_btt *btt, uint64_t block);
/* How many of the blocks from @first on up to byte @end are in one group. */
uint32_t zd_btt_nr_in_group(const struct zd_btt *btt, uint64_t first, uint64_t end);
/* The part of @block that [off, end) covers. */
void zd_btt_part_of(const struct zd_btt *btt, uint64_t block, uint64_t off, uint64_t end,
		    uint64_t *start, uint64_t *len);

/* Entry and owner of a block; the group's lock is held, or the caller sees to it that a write
 * beside this is no harm.  0; -EIO, also where the two don't agree. */
int zd_btt_look_up(struct zd_btt *btt, uint64_t block, uint64_t *entry, struct zd_btt_owner *owner);
/* The whole content of a block, checked; its data block must not be written meanwhile.  0;
 * -EIO: lost, broken, or not what was written. */
int zd_btt_fetch(struct zd_btt *btt, uint64_t block, uint64_t entry, void *buf);
/* 0; -EIO: the file has been cut, and nothing of the BTT makes sense any more; *@bad is @off. */
int zd_btt_check_media(struct zd_btt *btt, uint64_t off, uint64_t *bad);

#endif
