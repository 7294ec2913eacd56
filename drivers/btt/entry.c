/* SPDX-License-Identifier: MIT */
/* Entries of a BTT's tables, and their checksums: CRC-32C that begins with the region's uuid, so
 * that no entry of another region is taken for this one's. */
#include "drivers/btt/entry.h"

#include "drivers/btt/entry.h"

#include "drivers/media/crc32c.h"

#define OWNER_CHECK_SHIFT	(ZD_BTT_GEN_BITS + 2)

uint32_t zd_btt_seed(const uint8_t *uuid)
{
	return zd_crc32c(0, uuid, 16);
}

uint32_t zd_btt_info_sum(const struct zd_btt_info_block *info)
{
	return zd_crc32c(ZD_BTT_VERSION, info, offsetof(struct zd_btt_info_block, checksum));
}

uint32_t zd_btt_slot_sum(const struct zd_btt *btt, const struct zd_btt_slot *slot, uint32_t lane,
			 uint32_t half)
{
	uint64_t which = (uint64_t)half << 32 | lane;

	return zd_crc32c(zd_crc32c(btt->seed, &which, sizeof(which)), slot,
			 offsetof(struct zd_btt_slot, checksum));
}

/* --- map --- */

static uint64_t make_entry(const struct zd_btt *btt, uint64_t block, uint32_t word, uint64_t value)
{
	uint64_t of[2] = { block << 32 | word, value };

	return (uint64_t)zd_crc32c(btt->seed, of, sizeof(of)) << 32 | word;
}

uint64_t zd_btt_data_entry(const struct zd_btt *btt, uint64_t block, uint32_t at, const void *data)
{
	return make_entry(btt, block, (uint32_t)ZD_BTT_DATA << ZD_BTT_KIND_SHIFT | at,
			  zd_crc32c_x4(data, btt->block));
}

uint64_t zd_btt_kind_entry(const struct zd_btt *btt, uint64_t block, uint32_t at,
			   enum zd_btt_kind kind, uint64_t gen)
{
	return make_entry(btt, block, (uint32_t)kind << ZD_BTT_KIND_SHIFT | at, gen);
}

/* --- owners --- */

static uint64_t owner_check(const struct zd_btt *btt, uint64_t what, uint64_t gen, uint32_t at)
{
	uint64_t of[3] = { at, what, gen & ((UINT64_C(1) << OWNER_CHECK_SHIFT) - 1) };
	uint32_t c = zd_crc32c(btt->seed, of, sizeof(of));

	c = (c ^ c >> 16) & 0xffff;
	return (uint64_t)c << OWNER_CHECK_SHIFT;
}

struct zd_btt_owner zd_btt_make_owner(const struct zd_btt *btt, uint32_t at, uint32_t block,
				      uint32_t sum, enum zd_btt_kind kind, uint64_t gen)
{
	struct zd_btt_owner o = {
		.what = (uint64_t)sum << 32 | block,
		.gen = (uint64_t)kind << ZD_BTT_GEN_BITS | gen,
	};

	o.gen |= owner_check(btt, o.what, o.gen, at);
	return o;
}

bool zd_btt_owner_is_valid(const struct zd_btt *btt, const struct zd_btt_owner *o, uint32_t at)
{
	uint32_t block = o->what;

	/* 16 bits of checksum are few against a page of junk; and generations must have room for
	 * more writes */
	if (block >= btt->nr_blocks && (block != ZD_BTT_NO_BLOCK || o->what >> 32))
		return false;
	return zd_btt_owner_kind(o) != ZD_BTT_NONE && zd_btt_owner_gen(o) < ZD_BTT_GEN_MASK / 2 &&
	       o->gen >> OWNER_CHECK_SHIFT << OWNER_CHECK_SHIFT ==
		       owner_check(btt, o->what, o->gen, at);
}

uint64_t zd_btt_implied_entry(const struct zd_btt *btt, uint32_t at, const struct zd_btt_owner *o)
{
	enum zd_btt_kind kind = zd_btt_owner_kind(o);

	if (kind == ZD_BTT_DATA)
		return o->what >> 32 << 32 | (uint32_t)kind << ZD_BTT_KIND_SHIFT | at;
	return zd_btt_kind_entry(btt, (uint32_t)o->what, at, kind, zd_btt_owner_gen(o));
}

enum zd_btt_kind zd_btt_agree(const struct zd_btt *btt, uint64_t block, uint64_t entry,
			      const struct zd_btt_owner *owner)
{
	uint32_t at = zd_btt_data_block(entry);
	enum zd_btt_kind kind = zd_btt_kind(entry), other = zd_btt_owner_kind(owner);

	if ((uint32_t)owner->what != block || !zd_btt_owner_is_valid(btt, owner, at))
		return ZD_BTT_NONE;
	if (kind == ZD_BTT_DATA) {
		if (owner->what >> 32 != entry >> 32)
			return ZD_BTT_NONE;
	} else if (entry != zd_btt_kind_entry(btt, block, at, kind, zd_btt_owner_gen(owner))) {
		return ZD_BTT_NONE;
	}
	if (kind == ZD_BTT_ZERO || other == ZD_BTT_ZERO)
		return ZD_BTT_ZERO;
	return kind == ZD_BTT_LOST || other == ZD_BTT_LOST ? ZD_BTT_LOST : ZD_BTT_DATA;
}
