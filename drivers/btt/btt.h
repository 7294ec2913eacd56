/* SPDX-License-Identifier: MIT */
/*
 * drivers/btt/btt.h - blocks that are written as a whole or not at all, whenever the
 * power goes: a block translation table over the media.
 *
 * What is on the media (zonedev-pmem(7) has it for the user; all numbers little-
 * endian, all areas at multiples of 4096):
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
 * There are more data blocks than blocks: a lane owns one that is free.  To write block
 * b, a lane
 *
 *	1. writes the content to its free data block f, and makes that durable;
 *	2. writes { b, old map entry, new map entry for f, generation } with a checksum
 *	   into the older of its flog's two halves, both copies, durable;
 *	3. changes f's owner, and the map entry, by one 8-byte store;
 *
 * and owns b's old data block from then on.  Power lost before 2 is done: b has its old
 * content.  After: opening finds the newer half with the old entry still in the map,
 * and does step 3.
 *
 * Step 3 needs not be durable before the write is done: the flog says the same.  It
 * must be before the flog says something else, and before anybody's flog tells of the
 * block as step 3 left it.  With msync both come after somebody's step 1, which makes
 * durable all that was stored before it.  With CLWB it is durable at once: a thread's
 * fence does nothing for the stores of others.
 *
 * What was damaged is found, whatever it is: nothing on the media is valid as zeros.
 *
 *  - A map entry has a checksum of the content, the block and the data block (of the
 *    block, the data block and the owner's generation where there is no content): so what
 *    a read returns was written there, for this block.
 *  - It may have been written long ago.  But then its data block is another block's by
 *    now, or a lane's: map, owners and lanes must agree on every data block, and do in no
 *    mixture of old and new pages that leaves out one of the three.
 *  - A region that was closed has a sum of each page, and its info blocks the sum of those:
 *    it opens as it was closed, or the pages that differ are known (btt/open.c).
 *
 * Each of map, owners and flog can be made from the two others: btt/mend.c.
 *
 * Generations number the writes of the whole region.
 *
 * Lanes are taken before the group's lock (groups of 16 blocks share one), several at a
 * time, and waited for only with nothing in hand: no deadlock.  A group's lock is held
 * by a writer from reading the map to changing it.  A reader takes no lock: it announces
 * the data block that it reads in a slot of its own, and looks at the map once more; the
 * writer of a free data block waits until nobody reads that (btt/read.c).
 */
#ifndef ZD_DRIVERS_BTT_BTT_H
#define ZD_DRIVERS_BTT_BTT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "drivers/media/media.h"

#define ZD_BTT_INFO_BYTES	4096u
#define ZD_BTT_VERSION		2u
#define ZD_BTT_UNFINISHED	UINT32_MAX	/* as a version: being laid out */
#define ZD_BTT_MIN_BYTES	(UINT64_C(1) << 20)
#define ZD_BTT_MAX_LANES	256u
#define ZD_BTT_GROUP		16u	/* blocks that are written at a time */
#define ZD_BTT_LOCKS		256u
#define ZD_BTT_READERS		32u
#define ZD_BTT_NR_INFOS		3u
#define ZD_BTT_SUMS_COPIES	2u
#define ZD_BTT_NO_BLOCK		UINT32_MAX

#define ZD_BTT_MAGIC		"ZONEDEV BTT\n\x1a"	/* and NULs, 16 bytes in all */

/* --- on the media --- */

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
	uint32_t checksum;		/* of all before */
};

/*
 * What a block's content is.  A map entry: the data block, and the kind in bits 30 and 31;
 * the checksum in the upper 32 bits.
 */
enum zd_btt_kind {
	ZD_BTT_NONE,			/* no entry has it */
	ZD_BTT_DATA,
	ZD_BTT_ZERO,			/* reads as zeros */
	ZD_BTT_LOST,			/* nobody knows */
};
#define ZD_BTT_KIND_SHIFT	30
#define ZD_BTT_BLOCK_MASK	((UINT32_C(1) << ZD_BTT_KIND_SHIFT) - 1)

/*
 * @what: the block, and the content's checksum as in the map in the upper 32 bits.
 * @gen: the generation in bits 0-45, the kind, and 16 bits of a checksum: so that a kind
 * changes by one store.  It stays when the data block becomes free.
 */
struct zd_btt_owner {
	uint64_t what, gen;
};
#define ZD_BTT_GEN_BITS		46
#define ZD_BTT_GEN_MASK		((UINT64_C(1) << ZD_BTT_GEN_BITS) - 1)

struct zd_btt_slot {
	uint64_t old_entry, new_entry;
	uint64_t gen;
	uint64_t prev_gen;		/* of the lane's slot before */
	uint32_t block;			/* NO_BLOCK: none was written */
	uint32_t zero[6];
	uint32_t checksum;		/* of the above, the lane, and which half */
};

_Static_assert(sizeof(struct zd_btt_info_block) == ZD_BTT_INFO_BYTES, "on media");
_Static_assert(sizeof(struct zd_btt_slot) == 64, "on media");

/* --- in memory --- */

struct zd_btt_lane {
	uint32_t free;			/* its data block */
	uint32_t half;			/* where the next slot goes */
	uint64_t gen;			/* of the newest slot */
};

/* One cache line.  0: nobody's; else the data block that is being read, plus one. */
struct zd_btt_reader {
	_Alignas(64) uint32_t word;
};
#define ZD_BTT_READER_WAITER	(UINT32_C(1) << 31)	/* a writer waits for the reader */
#define ZD_BTT_READER_TAKEN	(ZD_BTT_READER_WAITER - 1)	/* and reads nothing yet */

struct zd_btt {
	struct zd_media *m;
	uint32_t block;
	uint64_t nr_blocks;
	uint32_t nr_lanes;
	struct zd_btt_info_block info;	/* as it is on the media, or should be */
	uint32_t seed;			/* of all checksums but the info block's */
	uint64_t gen;			/* the last that was given out; atomic */
	/* Requests that mark blocks as zero: begun, and done.  Changed, under no lock, before
	 * the first mark and after the last; looked at under a group's lock. */
	uint64_t zeroings, zeroed;
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
	struct zd_btt_reader readers[ZD_BTT_READERS];
};

static inline uint64_t zd_btt_nr_data(const struct zd_btt *btt)
{
	return btt->nr_blocks + btt->nr_lanes;
}

static inline uint32_t zd_btt_data_block(uint64_t entry)
{
	return (uint32_t)entry & ZD_BTT_BLOCK_MASK;
}

static inline enum zd_btt_kind zd_btt_kind(uint64_t entry)
{
	return (enum zd_btt_kind)((uint32_t)entry >> ZD_BTT_KIND_SHIFT);
}

/* Can it be one? */
static inline bool zd_btt_is_entry(const struct zd_btt *btt, uint64_t entry)
{
	return zd_btt_kind(entry) != ZD_BTT_NONE && zd_btt_data_block(entry) < zd_btt_nr_data(btt);
}

static inline uint64_t zd_btt_owner_gen(const struct zd_btt_owner *o)
{
	return o->gen & ZD_BTT_GEN_MASK;
}

static inline enum zd_btt_kind zd_btt_owner_kind(const struct zd_btt_owner *o)
{
	return (enum zd_btt_kind)(o->gen >> ZD_BTT_GEN_BITS & 3);
}

static inline uint64_t zd_btt_map_off(const struct zd_btt *btt, uint64_t block)
{
	return btt->info.map_off + block * sizeof(uint64_t);
}

static inline uint64_t zd_btt_owner_off(const struct zd_btt *btt, uint64_t data_block)
{
	return btt->info.owner_off + data_block * sizeof(struct zd_btt_owner);
}

/* Of all lanes, once. */
static inline uint64_t zd_btt_flog_part(const struct zd_btt *btt)
{
	return (btt->nr_lanes * sizeof(struct zd_btt_slot) + ZD_PAGE_SIZE - 1) & ZD_PAGE_MASK;
}

static inline uint64_t zd_btt_slot_off(const struct zd_btt *btt, uint32_t lane, uint32_t half,
				       uint32_t copy)
{
	return btt->info.flog_off + (2 * copy + half) * zd_btt_flog_part(btt) +
	       lane * sizeof(struct zd_btt_slot);
}

static inline uint64_t zd_btt_data_off(const struct zd_btt *btt, uint64_t data_block)
{
	return btt->info.data_off + data_block * btt->block;
}

/* --- btt/sum.c: entries and their checksums --- */

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
/*
 * Do the map's @entry of @block and the @owner of its data block tell of the same?  The
 * kind that the block has then, else ZD_BTT_NONE.  Zeroing a block changes the two by a
 * store each, in any order: where one of them says so it is ZERO.
 */
enum zd_btt_kind zd_btt_agree(const struct zd_btt *btt, uint64_t block, uint64_t entry,
			      const struct zd_btt_owner *owner);

/* --- btt/layout.c: where everything is; info blocks --- */

/* As many as there are, each with what reading it said. */
struct zd_btt_infos {
	struct zd_btt_info_block b[ZD_BTT_NR_INFOS];
	int rc[ZD_BTT_NR_INFOS];
	bool valid[ZD_BTT_NR_INFOS];
	int best;			/* the newest valid one; -1: none */
	bool unfinished;		/* laying it out was interrupted */
	uint32_t nr_broken;		/* of the others */
};

/* 1: the media have a BTT, or what was one; 0; -errno. */
int zd_btt_probe(struct zd_media *m);
void zd_btt_read_infos(struct zd_media *m, struct zd_btt_infos *infos);
/* Why there is no valid one, for the user: -EUCLEAN. */
int zd_btt_explain_infos(struct zd_media *m, const struct zd_btt_infos *infos, char *err,
			 size_t errlen);
int zd_btt_create(struct zd_media *m, uint32_t block, struct zd_btt_info_block *info);
/* All of them, the next serial number. */
int zd_btt_put_infos(struct zd_btt *btt);

/* --- btt/flog.c: what the lanes did last --- */

enum zd_btt_lane_state {
	ZD_BTT_LANE_WHOLE,
	ZD_BTT_LANE_TORN,		/* one half is nothing: was it being written? */
	ZD_BTT_LANE_LOST,		/* what it did last isn't known */
};

struct zd_btt_redo {
	uint32_t block, at;
	uint64_t entry;			/* as it must be in the map... */
	struct zd_btt_owner owner;	/* ... and data block @at's */
	bool changed;
	bool odd;			/* the owner is old, but the map isn't as before */
};

struct zd_btt_log {
	struct zd_btt_slot *newest;	/* a lane each */
	uint8_t *half, *state;
	struct zd_btt_redo *redo;
	uint32_t nr_redo, nr_lost, nr_torn, nr_mended;	/* mended: one copy of two is bad */
	uint64_t max_gen;
};

/* @bad_page: may be NULL: a flag for each page that has sums; slots there aren't used. */
int zd_btt_read_log(struct zd_btt *btt, const uint8_t *bad_page, struct zd_btt_log *log);
void zd_btt_free_log(struct zd_btt_log *log);
/* All lanes' newest slots, as they were read: durable.  And then, where there is no older
 * one, a blank. */
int zd_btt_put_newest(struct zd_btt *btt, const struct zd_btt_log *log);
int zd_btt_put_older(struct zd_btt *btt, const struct zd_btt_log *log);
/* One slot of a lane, with its checksum. */
int zd_btt_put_slot(struct zd_btt *btt, uint32_t lane, uint32_t half, struct zd_btt_slot *slot);
/* As it is before a lane has written anything. */
struct zd_btt_slot zd_btt_blank_slot(uint32_t free, uint64_t gen, uint64_t prev);

/* --- btt/open.c --- */

/*
 * Open the BTT on the media, or lay one out if @create.  0; -ENOENT: there is none (and
 * !@create); -EUCLEAN, -EINVAL, -EIO, -ENOSPC, -ENOMEM; @err as in zd_pmem_open().
 * @block: for a new one; 0: 4096.
 */
int zd_btt_open(struct zd_media *m, bool create, uint32_t block, struct zd_btt **btt, char *err,
		size_t errlen);
/* What was written is durable without a recovery. */
void zd_btt_close(struct zd_btt *btt);
/* The tables are durable, and have seen @gen: now their sums, and that they are right. */
int zd_btt_put_closed(struct zd_btt *btt, uint64_t gen);
struct zd_btt *zd_btt_alloc(struct zd_media *m, const struct zd_btt_info_block *info);
void zd_btt_free(struct zd_btt *btt);

/* --- btt/pages.c: the sums of pages --- */

uint64_t zd_btt_nr_pages(const struct zd_btt *btt);
/* Which pages aren't as the region was closed: a flag each.  0; 1: there are no sums to tell
 * by; -ENOMEM. */
int zd_btt_bad_pages(struct zd_btt *btt, uint8_t *bad, uint64_t *nr_bad);
/* 0; sets info.sums_sum. */
int zd_btt_put_sums(struct zd_btt *btt);

/* --- btt/check.c, btt/mend.c: all of it against all of it --- */

struct zd_btt_check;

/*
 * Look at everything, of a BTT that is not in use, and say what is wrong.  0; -errno.  @say
 * gets each finding as a line, may be NULL.
 */
int zd_btt_check(struct zd_btt *btt, void (*say)(void *arg, const char *line), void *arg,
		 struct zd_btt_check **out);
void zd_btt_check_free(struct zd_btt_check *c);
/* 0: nothing is wrong that isn't usual after a crash; 1: it is. */
int zd_btt_check_damaged(const struct zd_btt_check *c);
/* And it can't be put right: don't apply it. */
bool zd_btt_check_hopeless(const struct zd_btt_check *c);
uint64_t zd_btt_check_nr_lost(const struct zd_btt_check *c);
/* The last generation there is when it has been applied. */
uint64_t zd_btt_check_gen(const struct zd_btt_check *c);
/* Put right what can be, on the media, and mark as lost what can't. */
int zd_btt_check_apply(struct zd_btt_check *c);

/* --- btt.c, for its parts --- */

struct zd_mutex *zd_btt_group_lock(struct zd_btt *btt, uint64_t block);
/* How many of the blocks from @first on up to byte @end are in one group. */
uint32_t zd_btt_in_group(const struct zd_btt *btt, uint64_t first, uint64_t end);
/* Entry and owner of a block, as they are under the group's lock.  0; -EIO also for what
 * doesn't agree. */
int zd_btt_look_up(struct zd_btt *btt, uint64_t block, uint64_t *entry,
		   struct zd_btt_owner *owner);
bool zd_btt_has_failed(struct zd_btt *btt);
/* -EIO: somebody has shortened the file: nothing of it makes sense any more. */
int zd_btt_check_media(struct zd_btt *btt, uint64_t off, uint64_t *bad);
/* The part of @block that [off, end) covers. */
void zd_btt_part_of(const struct zd_btt *btt, uint64_t block, uint64_t off, uint64_t end,
		    uint64_t *start, uint64_t *len);

/* --- btt/read.c --- */

/* The whole content of a block, checked; its data block must not be written meanwhile.  0;
 * -EIO: lost, broken, or not what was written. */
int zd_btt_fetch(struct zd_btt *btt, uint64_t block, uint64_t entry, void *buf);
/* Until nobody reads any of @nr data blocks that are free. */
void zd_btt_wait_readers(struct zd_btt *btt, const uint32_t *at, uint32_t nr);

/* btt/read.c, btt.c, btt/zero.c: as zd_media_read() and the like, in bytes of the BTT,
 * multiples of 512 */
int zd_btt_read(struct zd_btt *btt, uint64_t off, struct zd_iter *to, uint64_t len,
		uint64_t *bad);
int zd_btt_write(struct zd_btt *btt, uint64_t off, struct zd_iter *from, uint64_t len,
		 uint64_t *bad);
int zd_btt_zero(struct zd_btt *btt, uint64_t off, uint64_t len, bool punch, uint64_t marks,
		uint64_t *bad);
int64_t zd_btt_extent(struct zd_btt *btt, uint64_t off, uint64_t len, unsigned int *flags);

#endif
