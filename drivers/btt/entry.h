/* SPDX-License-Identifier: MIT */
/* drivers/btt/entry.h - entries of a BTT's tables, and their checksums.  Any context. */
#ifndef ZD_DRIVERS_BTT_ENTRY_H
#define ZD_DRIVERS_BTT_ENTRY_H

#include "drivers/btt/btt.h"

uint32_t zd_btt_seed(const uint8_t *uuid);
uint32_t zd_btt_info_sum(const struct zd_btt_info_block *info);
uint32_t zd_btt_slot_sum(const struct zd_btt *btt, const struct zd_btt_slot *slot, uint32_t lane,
			 uint32_t half);
/* The map's entry of @block for the content at @data, in data block @at. */
uint64_t zd_btt_data_entry(const struct zd_btt *btt, uint64_t block, uint32_t at, const void *data);
/* And where there is no content: ZD_BTT_ZERO, ZD_BTT_LOST. */
uint64_t zd_btt_kind_entry(const struct zd_btt *btt, uint64_t block, uint32_t at,
			   enum zd_btt_kind kind, uint64_t gen);
struct zd_btt_owner zd_btt_make_owner(const struct zd_btt *btt, uint32_t at, uint32_t block,
				      uint32_t sum, enum zd_btt_kind kind, uint64_t gen);
bool zd_btt_owner_is_valid(const struct zd_btt *btt, const struct zd_btt_owner *o, uint32_t at);
/* The map entry that the owner of data block @at implies for its block. */
uint64_t zd_btt_implied_entry(const struct zd_btt *btt, uint32_t at, const struct zd_btt_owner *o);
/*
 * Do the map's @entry of @block and the @owner of its data block tell of the same?  The
 * kind that the block has then, else ZD_BTT_NONE.  Zeroing a block changes the two by a
 * store each, in any order: where one of them says ZERO the block is ZERO.
 */
enum zd_btt_kind zd_btt_agree(const struct zd_btt *btt, uint64_t block, uint64_t entry,
			      const struct zd_btt_owner *owner);

#endif
