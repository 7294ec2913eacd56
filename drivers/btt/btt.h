/* SPDX-License-Identifier: MIT */
/*
 * drivers/btt/btt.h - a block translation table (BTT) over the media: blocks that are written
 * as a whole or not at all, whenever the power goes.
 *
 *	format.h	what is on the media
 *	write.c		the three steps of a write
 *	read.c		reads, beside the writers
 *	zero.c		blocks that read as zeros; extent.c tells of them
 *	open.c		opened and closed; recover.c: after a crash
 *	create.c	laid out
 *	check.c		damage found (check_lanes.c, check_pages.c, tables.c) and put right
 *			(resolve.c, mend.c)
 *
 * and what these share:
 *
 *	block.c		one block: looked up, its content, its lock
 *	lanes.c		lanes taken and given back
 *	readers.c	which data blocks are being read
 *	info.c		info blocks, and where everything is
 *	flog.c		the lanes' log
 *	page_sums.c	the sums of the tables' pages
 *	entry.c		entries of the tables, and their checksums
 *	btt.c		the struct zd_btt
 *
 * There are more data blocks than blocks: each lane owns a data block that is free.  To
 * write block b, a lane
 *
 *	1. writes the content to its free data block f, and makes that durable;
 *	2. writes { b, b's map entry, a new entry for f, generation } with a checksum into
 *	   the older half of its flog, both copies, durable;
 *	3. changes f's owner, and then b's map entry, by one 8-byte store;
 *
 * and owns b's old data block from then on.  If the power goes before step 2 is done, b has its
 * old content.  If it goes later, opening finds the flog's newer half, with the old entry
 * still in the map, and does step 3.
 *
 * Step 3 need not be durable when the write is done: the flog says the same.  Step 3 must be
 * durable before the lane's slot is overwritten, and before any lane logs a later write of b,
 * whose old entry is the one that step 3 stored.  With msync() both come after the step 1 of
 * some later write, which makes durable whatever any thread has stored before it.  With CLWB
 * the thread makes its step 3 durable at once: a thread's fence does nothing for the stores of
 * other threads.
 *
 * Damage is found, whatever has caused it:
 *
 *  - A map entry has a checksum of the content, the block and the data block (where there is no
 *    content: of the block, the data block and the owner's generation).  So what a read
 *    returns was written there, for this block.
 *  - The entry may be an old one.  But then its data block is another block's by now, or a
 *    lane's: map, owners and lanes must agree on every data block, and they don't in any
 *    mixture of old and new pages in which one of the three is new.
 *  - A region that was closed has a sum of each page, and its info blocks the sum of those:
 *    either it opens as it was closed, or the pages that differ are known.
 *
 * Each of map, owners and flog can be made from the other two: resolve.c.
 *
 * Generations number the writes of the whole region.
 *
 * Locks.  Lanes are taken first, several at a time, and waited for only by a thread that holds
 * no lane and no lock: no deadlock.  Then the group's lock (groups of 16 blocks share one),
 * which a writer holds from reading the map to changing it; inside it the locks of the media
 * (media.h) and ring_lock.  A reader takes no lock: it announces the data block that it
 * reads in a slot of its own, and looks at the map once more; the writer of a free data
 * block waits until no reader reads that block (readers.h).
 */
#ifndef ZD_DRIVERS_BTT_BTT_H
#define ZD_DRIVERS_BTT_BTT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "drivers/btt/format.h"
#include "drivers/media/media.h"

#define ZD_BTT_GROUP		16u	/* blocks that are written at a time */
#define ZD_BTT_LOCKS		256u
#define ZD_BTT_READERS		32u

/* A lane belongs to the thread that has taken it. */
struct zd_btt_lane {
	uint32_t free;			/* its data block */
	uint32_t half;			/* where the next slot goes */
	uint64_t gen;			/* of the newest slot */
};

/* A cache line of its own.  0: no reader has it; else the data block that is being read, plus
 * one. */
struct zd_btt_reader {
	_Alignas(64) uint32_t word;
};

struct zd_btt {
	struct zd_media *m;
	uint32_t block;			/* bytes */
	uint64_t nr_blocks;
	uint32_t nr_lanes;
	struct zd_btt_info_block info;	/* as it is on the media, or should be */
	uint32_t seed;			/* of all checksums but the info block's */
	uint64_t gen;			/* the last that was given out; atomic */
	/* Requests that mark blocks as zero: begun, and done.  Changed, under no lock, before
	 * the first mark and after the last; looked at under a group's lock. */
	uint64_t zeroings, zeroed;
	struct zd_btt_lane *lanes;
	/* The lanes that no thread has, the longest unused first: a ring; ring_lock. */
	struct zd_mutex ring_lock;
	uint32_t *ring;
	uint32_t ring_first, ring_nr, ring_waiters;
	uint32_t ring_turn;		/* futex: a lane came back, or @failed was set */
	/* A write failed between its steps 2 and 3: only opening the region anew can tell who
	 * owns which data block.  No more writes. */
	bool failed;
	struct zd_mutex group[ZD_BTT_LOCKS];
	struct zd_btt_reader readers[ZD_BTT_READERS];
};

/* --- for the region: any thread; they may block, but for _extent() --- */

/*
 * zd_btt_open - open the BTT on the media, or lay one out with @may_create.  0; -ENOENT: there is
 * none (and not @may_create); -EUCLEAN, -EINVAL, -EIO, -ENOSPC, -ENOMEM; @err as in
 * zd_pmem_open().  @block: bytes of a new one's blocks; 0: 4096.
 * zd_btt_close - and what was written needs no recovery.  No other call is under way.
 */
int zd_btt_open(struct zd_media *m, bool may_create, uint32_t block, struct zd_btt **btt, char *err,
		size_t errlen);
void zd_btt_close(struct zd_btt *btt);

/* As zd_media_read() and the like, in bytes of the BTT, multiples of 512. */
int zd_btt_read(struct zd_btt *btt, uint64_t off, struct zd_iter *to, uint64_t len, uint64_t *bad);
int zd_btt_write(struct zd_btt *btt, uint64_t off, struct zd_iter *from, uint64_t len,
		 uint64_t *bad);
int zd_btt_zero(struct zd_btt *btt, uint64_t off, uint64_t len, bool punch, uint64_t marks,
		uint64_t *bad);
int64_t zd_btt_extent(struct zd_btt *btt, uint64_t off, uint64_t len, unsigned int *flags);

/* --- for the files of this room, and pmem/check.c --- */

/* A BTT in memory, as @info describes it.  NULL: no memory. */
struct zd_btt *zd_btt_alloc(struct zd_media *m, const struct zd_btt_info_block *info);
void zd_btt_free(struct zd_btt *btt);
/* The tables are durable, and have seen @gen: store their sums, and that the sums are right. */
int zd_btt_put_closed(struct zd_btt *btt, uint64_t gen);

static inline uint64_t zd_btt_nr_data(const struct zd_btt *btt)
{
	return btt->nr_blocks + btt->nr_lanes;
}

/* Can @entry be one of the map? */
static inline bool zd_btt_is_entry(const struct zd_btt *btt, uint64_t entry)
{
	return zd_btt_kind(entry) != ZD_BTT_NONE && zd_btt_data_block(entry) < zd_btt_nr_data(btt);
}

static inline uint64_t zd_btt_map_off(const struct zd_btt *btt, uint64_t block)
{
	return btt->info.map_off + block * sizeof(uint64_t);
}

static inline uint64_t zd_btt_owner_off(const struct zd_btt *btt, uint64_t data_block)
{
	return btt->info.owner_off + data_block * sizeof(struct zd_btt_owner);
}

/* Bytes that one half of one copy takes, for all lanes. */
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

#endif
