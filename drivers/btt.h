/* SPDX-License-Identifier: MIT */
/*
 * drivers/btt.h - blocks that are written as a whole or not at all, whenever the
 * power goes: a block translation table over the media.
 *
 * What is on the media (zonedev-pmem(7) has it for the user; all numbers little-
 * endian, all areas at multiples of 4096):
 *
 *	info block	4096 bytes, with a checksum
 *	data		nr_blocks + nr_lanes blocks
 *	map		4 bytes a block: where its content is
 *	flog		64 bytes a lane: what the lane wrote last
 *	info block	again, in the last 4096 bytes
 *
 * A map entry is 0, or the number of a data block and two bits: MAP_VALID, always, and
 * MAP_ZERO: reads as zeros.  0 stands for "block i is in data block i, and reads as
 * zeros": so a new BTT is two info blocks in a file of holes.
 *
 * There are more data blocks than blocks: a lane owns one that is free.  To write block
 * b, a lane
 *
 *	1. writes the content to its free data block f, and makes that durable;
 *	2. writes { b, old map entry, new map entry for f } with the next sequence number
 *	   and a checksum into the older of its flog's two slots, durable;
 *	3. changes the map entry, one 4-byte store;
 *
 * and owns b's old data block from then on.  Power lost before 2 is done: b has its old
 * content.  After: opening finds the newer slot with the old entry still in the map,
 * and does step 3.
 *
 * Step 3 needs not be durable before the write is done: the flog says the same.  It
 * must be before the flog says something else, and before anybody's flog tells of the
 * block as step 3 left it.  With msync both come after somebody's step 1, which makes
 * durable all that was stored before it.  With CLWB it is durable at once: a thread's
 * fence does nothing for the stores of others.
 *
 * Lanes are taken before the group's lock (groups of 16 blocks share one), several at a
 * time, and waited for only with nothing in hand: no deadlock.  A group's lock is held
 * from reading the map to changing it.  A reader holds it over the copy: so the data
 * block can't become somebody's free block meanwhile.
 */
#ifndef ZD_DRIVERS_BTT_H
#define ZD_DRIVERS_BTT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/lock.h"
#include "drivers/pmem.h"

#define ZD_BTT_INFO_BYTES	4096u
#define ZD_BTT_VERSION		1u
#define ZD_BTT_MIN_BYTES	(UINT64_C(1) << 20)
#define ZD_BTT_MAX_LANES	256u
#define ZD_BTT_GROUP		16u	/* blocks that are read or written at a time */
#define ZD_BTT_LOCKS		256u

#define ZD_BTT_MAP_VALID	(UINT32_C(1) << 31)
#define ZD_BTT_MAP_ZERO		(UINT32_C(1) << 30)
#define ZD_BTT_MAP_BLOCK	(ZD_BTT_MAP_ZERO - 1)

#define ZD_BTT_MAGIC		"ZONEDEV BTT\n\x1a"	/* and NULs, 16 bytes in all */

struct zd_btt_info_block {
	char magic[16];
	uint32_t version;
	uint32_t block;			/* bytes */
	uint64_t media_bytes;
	uint64_t nr_blocks;
	uint32_t nr_lanes;
	uint32_t zero;
	uint64_t data_off, map_off, flog_off, info2_off;
	uint8_t uuid[16];
	uint8_t reserved[ZD_BTT_INFO_BYTES - 96 - 8];
	uint64_t checksum;		/* of all before */
};

struct zd_btt_slot {
	uint32_t block;
	uint32_t old_map, new_map;
	uint32_t seq;			/* 1, 2, 3, 1...; 0: never written */
	uint64_t checksum;		/* of the above and the lane's number */
	uint64_t zero;
};

struct zd_btt_flog {
	struct zd_btt_slot slot[2];
};

_Static_assert(sizeof(struct zd_btt_info_block) == ZD_BTT_INFO_BYTES, "on media");
_Static_assert(sizeof(struct zd_btt_flog) == 64, "on media");

struct zd_btt_lane {
	uint32_t free;			/* its data block */
	uint32_t seq;			/* of the newer slot; 0: none */
	uint32_t slot;			/* where the next goes */
};

struct zd_btt {
	struct zd_media *m;
	uint32_t block;
	uint64_t nr_blocks;
	uint64_t data_off, map_off, flog_off, info2_off;
	uint32_t nr_lanes;
	uint8_t uuid[16];
	struct zd_btt_lane *lanes;
	/* The lanes that nobody uses, the longest unused first: a ring. */
	struct zd_mutex ring_lock;
	uint32_t *ring;
	uint32_t ring_first, ring_nr, ring_waiters;
	uint32_t ring_turn;		/* futex: a lane came back, or it has failed */
	/* A write failed between its steps 2 and 3: only opening it anew can tell who
	 * owns which data block.  No more writes. */
	bool failed;
	struct zd_mutex group[ZD_BTT_LOCKS];
};

/* btt_layout.c */

/*
 * Open the BTT on the media, or lay one out if @create.  0; -ENOENT: there is none (and
 * !@create); -EUCLEAN, -EINVAL, -EIO, -ENOSPC, -ENOMEM; @err as in zd_pmem_open().
 * @block: for a new one; 0: 4096.
 */
int zd_btt_open(struct zd_media *m, bool create, uint32_t block, struct zd_btt **btt, char *err,
		size_t errlen);
/* 1: the media have a BTT, or what was one; 0; -errno. */
int zd_btt_probe(struct zd_media *m);
/* What was written is durable without a recovery. */
void zd_btt_close(struct zd_btt *btt);
uint64_t zd_btt_slot_checksum(const struct zd_btt_slot *slot, uint32_t lane);

/* The data block that a map entry of @block names. */
static inline uint32_t zd_btt_data_block(uint32_t entry, uint64_t block)
{
	return entry ? entry & ZD_BTT_MAP_BLOCK : (uint32_t)block;
}

static inline uint64_t zd_btt_map_off(const struct zd_btt *btt, uint64_t block)
{
	return btt->map_off + block * sizeof(uint32_t);
}

static inline uint64_t zd_btt_flog_off(const struct zd_btt *btt, uint32_t lane, uint32_t slot)
{
	return btt->flog_off + lane * sizeof(struct zd_btt_flog) +
	       slot * sizeof(struct zd_btt_slot);
}

static inline uint64_t zd_btt_data_off(const struct zd_btt *btt, uint32_t data_block)
{
	return btt->data_off + (uint64_t)data_block * btt->block;
}

static inline bool zd_btt_reads_as_zeros(uint32_t entry)
{
	return !entry || entry & ZD_BTT_MAP_ZERO;
}

/* btt.c, for its parts */

struct zd_mutex *zd_btt_group_lock(struct zd_btt *btt, uint64_t block);
/* How many of the blocks from @first on up to byte @end are in one group. */
uint32_t zd_btt_in_group(const struct zd_btt *btt, uint64_t first, uint64_t end);
/* 0; -EIO also for what can't be an entry: somebody else has written there. */
int zd_btt_read_map(struct zd_btt *btt, uint64_t first, uint32_t nr, uint32_t *map);
bool zd_btt_has_failed(struct zd_btt *btt);
/* -EIO: somebody has shortened the file: nothing of it makes sense any more. */
int zd_btt_check_media(struct zd_btt *btt, uint64_t off, uint64_t *bad);

/* btt.c, btt_zero.c: as zd_media_read() and the like, in bytes of the BTT, multiples of 512 */
int zd_btt_read(struct zd_btt *btt, uint64_t off, struct zd_iter *to, uint64_t len,
		uint64_t *bad);
int zd_btt_write(struct zd_btt *btt, uint64_t off, struct zd_iter *from, uint64_t len,
		 uint64_t *bad);
int zd_btt_zero(struct zd_btt *btt, uint64_t off, uint64_t len, bool punch, uint64_t marks,
		uint64_t *bad);
int64_t zd_btt_extent(struct zd_btt *btt, uint64_t off, uint64_t len, unsigned int *flags);

#endif
