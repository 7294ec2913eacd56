/* SPDX-License-Identifier: MIT */
/* Blocks that are written as a whole or not at all: lanes, reads, writes.  See btt.h. */
#include "drivers/btt.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "zonedev/log.h"

/* Some blocks of one group, all in one write. */
struct batch {
	struct zd_btt *btt;
	uint64_t first;			/* block */
	uint32_t nr;
	uint32_t map[ZD_BTT_GROUP];
	uint32_t lane[ZD_BTT_GROUP];
};

/* --- lanes --- */

bool zd_btt_has_failed(struct zd_btt *btt)
{
	return __atomic_load_n(&btt->failed, __ATOMIC_RELAXED);
}

/* Under ring_lock. */
static void tell_waiters(struct zd_btt *btt)
{
	__atomic_add_fetch(&btt->ring_turn, 1, __ATOMIC_RELAXED);	/* he looks without it */
	zd_futex_wake(&btt->ring_turn, INT_MAX);
}

/* Up to @nr lanes, at least one; 0: it has failed.  Waits with nothing in hand. */
static uint32_t take_lanes(struct zd_btt *btt, uint32_t nr, uint32_t *lanes)
{
	uint32_t n = 0;

	zd_mutex_lock(&btt->ring_lock);
	while (!btt->ring_nr && !zd_btt_has_failed(btt)) {
		uint32_t turn = __atomic_load_n(&btt->ring_turn, __ATOMIC_RELAXED);

		btt->ring_waiters++;
		zd_mutex_unlock(&btt->ring_lock);
		zd_futex_wait(&btt->ring_turn, turn, -1);
		zd_mutex_lock(&btt->ring_lock);
		btt->ring_waiters--;
	}
	for (; n < nr && btt->ring_nr && !zd_btt_has_failed(btt); n++) {
		lanes[n] = btt->ring[btt->ring_first];
		btt->ring_first = (btt->ring_first + 1) % btt->nr_lanes;
		btt->ring_nr--;
	}
	zd_mutex_unlock(&btt->ring_lock);
	return n;
}

static void put_lanes(struct zd_btt *btt, uint32_t nr, const uint32_t *lanes)
{
	zd_mutex_lock(&btt->ring_lock);
	for (uint32_t i = 0; i < nr; i++)
		btt->ring[(btt->ring_first + btt->ring_nr++) % btt->nr_lanes] = lanes[i];
	if (btt->ring_waiters)
		tell_waiters(btt);
	zd_mutex_unlock(&btt->ring_lock);
}

struct zd_mutex *zd_btt_group_lock(struct zd_btt *btt, uint64_t block)
{
	return &btt->group[block / ZD_BTT_GROUP % ZD_BTT_LOCKS];
}

uint32_t zd_btt_in_group(const struct zd_btt *btt, uint64_t first, uint64_t end)
{
	uint64_t last = (end + btt->block - 1) / btt->block;
	uint64_t group_end = (first / ZD_BTT_GROUP + 1) * ZD_BTT_GROUP;

	return (last < group_end ? last : group_end) - first;
}

static bool is_entry(const struct zd_btt *btt, uint32_t entry)
{
	return !entry || (entry & ZD_BTT_MAP_VALID &&
			  (entry & ZD_BTT_MAP_BLOCK) < btt->nr_blocks + btt->nr_lanes);
}

int zd_btt_read_map(struct zd_btt *btt, uint64_t first, uint32_t nr, uint32_t *map)
{
	struct iovec iov = { map, nr * sizeof(*map) };
	struct zd_iter it = { .iov = &iov, .nr = 1 };
	uint64_t bad;
	int rc = zd_media_read(btt->m, zd_btt_map_off(btt, first), &it, iov.iov_len, &bad);

	for (uint32_t i = 0; i < nr && !rc; i++)
		if (!is_entry(btt, map[i]))
			rc = -EIO;
	return rc;
}

/* The part of @block that [off, end) covers. */
static void part_of(const struct zd_btt *btt, uint64_t block, uint64_t off, uint64_t end,
		    uint64_t *start, uint64_t *len)
{
	uint64_t block_off = block * btt->block;

	*start = off > block_off ? off - block_off : 0;
	*len = (end < block_off + btt->block ? end - block_off : btt->block) - *start;
}

/* --- read --- */

static int read_block(struct zd_btt *btt, uint64_t block, uint32_t entry, uint64_t off,
		      uint64_t end, struct zd_iter *to, uint64_t *bad)
{
	uint64_t start, len, at;
	int rc;

	part_of(btt, block, off, end, &start, &len);
	if (zd_btt_reads_as_zeros(entry))
		return zd_iter_zero(to, len);
	at = zd_btt_data_off(btt, zd_btt_data_block(entry, block)) + start;
	rc = zd_media_read(btt->m, at, to, len, bad);
	if (rc == -EIO)
		*bad = block * btt->block + start + (*bad - at);
	return rc;
}

static int read_group(struct zd_btt *btt, uint64_t off, uint64_t end, uint32_t nr,
		      struct zd_iter *to, uint64_t *bad)
{
	uint64_t first = off / btt->block;
	uint32_t map[ZD_BTT_GROUP];
	int rc;

	*bad = off;
	rc = zd_btt_read_map(btt, first, nr, map);
	for (uint32_t i = 0; i < nr && !rc; i++)
		rc = read_block(btt, first + i, map[i], off, end, to, bad);
	return rc;
}

/* Somebody has shortened the file: nothing of it makes sense any more. */
int zd_btt_check_media(struct zd_btt *btt, uint64_t off, uint64_t *bad)
{
	uint64_t where;

	if (!zd_media_check_end(btt->m, 0, btt->m->bytes, &where))
		return 0;
	*bad = off;
	return -EIO;
}

int zd_btt_read(struct zd_btt *btt, uint64_t off, struct zd_iter *to, uint64_t len,
		uint64_t *bad)
{
	uint64_t start = off, end = off + len, next;
	int rc = 0;

	for (; off < end && !rc; off = next) {
		uint64_t first = off / btt->block;
		uint32_t nr = zd_btt_in_group(btt, first, end);
		struct zd_mutex *lock = zd_btt_group_lock(btt, first);

		next = (first + nr) * btt->block < end ? (first + nr) * btt->block : end;
		zd_mutex_lock(lock);
		rc = read_group(btt, off, next, nr, to, bad);
		zd_mutex_unlock(lock);
	}
	return rc ? rc : zd_btt_check_media(btt, start, bad);
}

/* --- write --- */

/* A part of a block: the rest is what it was. */
static int merge(struct batch *b, uint32_t i, uint64_t start, uint64_t len, struct zd_iter *from,
		 char *buf)
{
	struct zd_btt *btt = b->btt;
	struct iovec iov = { buf, btt->block };
	struct zd_iter old = { .iov = &iov, .nr = 1 };
	uint64_t block = b->first + i, bad;
	int rc = read_block(btt, block, b->map[i], block * btt->block, (block + 1) * btt->block,
			    &old, &bad);

	if (rc)
		return rc;
	if (!from->iov)
		memset(buf + start, 0, len);
	return from->iov ? zd_iter_read(from, buf + start, len) : 0;
}

/* Step 1 of one block. */
static int write_data(struct batch *b, uint32_t i, uint64_t off, uint64_t end,
		      struct zd_iter *from)
{
	struct zd_btt *btt = b->btt;
	uint64_t at = zd_btt_data_off(btt, btt->lanes[b->lane[i]].free), start, len, bad;
	char buf[4096];
	struct iovec iov = { buf, btt->block };
	struct zd_iter merged = { .iov = &iov, .nr = 1 };
	int rc;

	part_of(btt, b->first + i, off, end, &start, &len);
	if (len == btt->block) {
		rc = zd_media_write(btt->m, at, from, len, &bad);
	} else {
		rc = merge(b, i, start, len, from, buf);
		if (!rc)
			rc = zd_media_write(btt->m, at, &merged, btt->block, &bad);
	}
	return rc;
}

static uint32_t new_entry(const struct batch *b, uint32_t i)
{
	return ZD_BTT_MAP_VALID | b->btt->lanes[b->lane[i]].free;
}

/* Step 2 of one block. */
static int write_flog(struct batch *b, uint32_t i)
{
	struct zd_btt *btt = b->btt;
	uint32_t nr = b->lane[i];
	struct zd_btt_lane *lane = &btt->lanes[nr];
	struct zd_btt_slot slot = {
		.block = b->first + i, .old_map = b->map[i], .new_map = new_entry(b, i),
		.seq = lane->seq % 3 + 1,
	};
	struct iovec iov = { &slot, sizeof(slot) };
	struct zd_iter it = { .iov = &iov, .nr = 1 };
	uint64_t bad;

	slot.checksum = zd_btt_slot_checksum(&slot, nr);
	return zd_media_write(btt->m, zd_btt_flog_off(btt, nr, lane->slot), &it, sizeof(slot), &bad);
}

/* Step 3 of one block: the lane's free block changes. */
static int write_map(struct batch *b, uint32_t i)
{
	struct zd_btt_lane *lane = &b->btt->lanes[b->lane[i]];
	uint64_t block = b->first + i;
	int rc = zd_media_put32(b->btt->m, zd_btt_map_off(b->btt, block), new_entry(b, i));

	if (rc)
		return rc;
	lane->free = zd_btt_data_block(b->map[i], block);
	lane->seq = lane->seq % 3 + 1;
	lane->slot = !lane->slot;
	return 0;
}

/*
 * In a sparse file the map's page may have no storage yet, and the file system none to
 * give: find out before there is something to undo.  (A group's entries are in one page;
 * the flog has its storage from the start.)
 */
static int touch_map(struct batch *b)
{
	for (uint32_t i = 0; i < b->nr; i++)
		if (!b->map[i])
			return zd_media_put32(b->btt->m, zd_btt_map_off(b->btt, b->first + i), 0);
	return 0;
}

static int prepare(struct batch *b, uint64_t off, uint64_t end, struct zd_iter *from)
{
	uint64_t bad;
	int rc = zd_btt_read_map(b->btt, b->first, b->nr, b->map);

	if (!rc)
		rc = touch_map(b);
	for (uint32_t i = 0; i < b->nr && !rc; i++)
		rc = write_data(b, i, off, end, from);
	if (!rc)
		rc = zd_media_order(b->btt->m);
	/* data beyond the end of a truncated file would not be there later */
	if (!rc)
		rc = zd_btt_check_media(b->btt, off, &bad);
	for (uint32_t i = 0; i < b->nr && !rc; i++)
		zd_media_written(b->btt->m,
				 zd_btt_data_off(b->btt, b->btt->lanes[b->lane[i]].free),
				 b->btt->block, from->marks);
	return rc;
}

static int commit(struct batch *b)
{
	struct zd_media *m = b->btt->m;
	int rc = 0;

	for (uint32_t i = 0; i < b->nr && !rc; i++)
		rc = write_flog(b, i);
	if (!rc)
		rc = zd_media_order(m);
	for (uint32_t i = 0; i < b->nr && !rc; i++)
		rc = write_map(b, i);
	/* with msync the next step 1 of anybody does it, in time */
	return !rc && m->drain_fn ? zd_media_order(m) : rc;
}

static void fail(struct zd_btt *btt)
{
	zd_warn_once("pmem: a BTT's media failed while a block was being written: it can be read, and written again when it has been opened anew");
	zd_mutex_lock(&btt->ring_lock);
	__atomic_store_n(&btt->failed, true, __ATOMIC_RELAXED);
	tell_waiters(btt);
	zd_mutex_unlock(&btt->ring_lock);
}

/* Under the group's lock. */
static int write_group(struct batch *b, uint64_t off, uint64_t end, struct zd_iter *from)
{
	int rc = zd_btt_has_failed(b->btt) ? -EIO : prepare(b, off, end, from);

	if (rc)
		return rc;
	rc = commit(b);
	if (rc)
		fail(b->btt);
	return rc;
}

int zd_btt_write(struct zd_btt *btt, uint64_t off, struct zd_iter *from, uint64_t len,
		 uint64_t *bad)
{
	uint64_t end = off + len, next;
	int rc = 0;

	for (; off < end && !rc; off = next) {
		struct batch b = { .btt = btt, .first = off / btt->block };
		struct zd_mutex *lock = zd_btt_group_lock(btt, b.first);

		*bad = off;
		b.nr = take_lanes(btt, zd_btt_in_group(btt, b.first, end), b.lane);
		if (!b.nr)
			return -EIO;
		next = (b.first + b.nr) * btt->block < end ? (b.first + b.nr) * btt->block : end;
		zd_mutex_lock(lock);
		rc = write_group(&b, off, next, from);
		zd_mutex_unlock(lock);
		put_lanes(btt, b.nr, b.lane);
	}
	return rc ? rc : zd_btt_check_media(btt, end - len, bad);
}
