/* SPDX-License-Identifier: MIT */
/*
 * drivers/btt/format.h - what a BTT has on the media (zonedev-pmem(7) has it for the user).
 * All numbers are little-endian, all areas lie at multiples of 4096:
 *
 *	info block	4096 bytes, with a checksum
 *	data		nr_blocks + nr_lanes blocks
 *	info block	again
 *	map		8 bytes a block: where its content is
 *	owners		16 bytes a data block: whose content it has, the map's reverse
 *	flog		64 bytes a lane, four times: two halves, written in turn, each in
 *			two copies; each of the four in pages of its own
 *	page sums	4 bytes for each page of map, owners and flog; and again
 *	info block	again, in the last 4096 bytes
 *
 * Nothing of it is valid as zeros.
 */
#ifndef ZD_DRIVERS_BTT_FORMAT_H
#define ZD_DRIVERS_BTT_FORMAT_H

#include <stdint.h>

#define ZD_BTT_INFO_BYTES	4096u
#define ZD_BTT_VERSION		2u
#define ZD_BTT_UNFINISHED	UINT32_MAX	/* as a version: being laid out */
#define ZD_BTT_MIN_BYTES	(UINT64_C(1) << 20)
#define ZD_BTT_MAX_LANES	256u
#define ZD_BTT_NR_INFOS		3u
#define ZD_BTT_SUMS_COPIES	2u
#define ZD_BTT_NO_BLOCK		UINT32_MAX

#define ZD_BTT_MAGIC		"ZONEDEV BTT\n\x1a"	/* and NULs, 16 bytes in all */

struct zd_btt_info_block {
	char magic[16];
	uint32_t version;
	uint32_t block;			/* bytes */
	uint64_t media_bytes;
	uint64_t nr_blocks;
	uint32_t nr_lanes;
	uint32_t closed;		/* 1: the sums are right, and nothing is to be redone */
	uint64_t data_off, map_off, owner_off, flog_off, sums_off, info_off[ZD_BTT_NR_INFOS];
	uint8_t uuid[16];
	uint64_t serial;		/* the highest is the newest */
	uint64_t closed_gen;		/* the region has seen this generation */
	uint32_t sums_sum;		/* of the page sums */
	uint8_t reserved[ZD_BTT_INFO_BYTES - 148 - 4];
	uint32_t checksum;		/* of all members before */
};

/*
 * What a block's content is.  A map entry has the data block in bits 0-29, the kind in bits 30 and
 * 31, and a checksum in the upper 32 bits.
 */
enum zd_btt_kind {
	ZD_BTT_NONE,			/* not the kind of any valid entry */
	ZD_BTT_DATA,
	ZD_BTT_ZERO,			/* reads as zeros */
	ZD_BTT_LOST,			/* not known any more: reads fail */
};
#define ZD_BTT_KIND_SHIFT	30
#define ZD_BTT_BLOCK_MASK	((UINT32_C(1) << ZD_BTT_KIND_SHIFT) - 1)

/*
 * Whose content a data block has.  The owner stays when the data block becomes free.
 *
 * @what: the block, and in the upper 32 bits the content's checksum as in the map.
 * @gen: the generation in bits 0-45, the kind, and 16 bits of a checksum: so that one store
 * changes the kind.
 */
struct zd_btt_owner {
	uint64_t what, gen;
};
#define ZD_BTT_GEN_BITS		46
#define ZD_BTT_GEN_MASK		((UINT64_C(1) << ZD_BTT_GEN_BITS) - 1)

/* A lane's slot in the flog: a write that the lane has done, or is doing. */
struct zd_btt_slot {
	uint64_t old_entry, new_entry;
	uint64_t gen;
	uint64_t prev_gen;		/* the generation of the lane's slot before */
	uint32_t block;			/* NO_BLOCK: none was written */
	uint32_t zero[6];
	uint32_t checksum;		/* of the members before, the lane, and which half */
};

_Static_assert(sizeof(struct zd_btt_info_block) == ZD_BTT_INFO_BYTES, "on media");
_Static_assert(sizeof(struct zd_btt_slot) == 64, "on media");

static inline uint32_t zd_btt_data_block(uint64_t entry)
{
	return (uint32_t)entry & ZD_BTT_BLOCK_MASK;
}

static inline enum zd_btt_kind zd_btt_kind(uint64_t entry)
{
	return (enum zd_btt_kind)((uint32_t)entry >> ZD_BTT_KIND_SHIFT);
}

static inline uint64_t zd_btt_owner_gen(const struct zd_btt_owner *o)
{
	return o->gen & ZD_BTT_GEN_MASK;
}

static inline enum zd_btt_kind zd_btt_owner_kind(const struct zd_btt_owner *o)
{
	return (enum zd_btt_kind)(o->gen >> ZD_BTT_GEN_BITS & 3);
}

#endif
