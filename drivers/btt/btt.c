/* SPDX-License-Identifier: MIT */
/* Blocks that are written as a whole or not at all: lanes, and writes.  See btt.h. */
#include "drivers/btt/btt.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "zonedev/log.h"

/* Some blocks of one group, all in one write. */
struct batch {
	struct zd_btt *btt;
	uint64_t first;			/* block */
	uint32_t nr;
	uint64_t old[ZD_BTT_GROUP];	/* map entries */
	uint64_t new[ZD_BTT_GROUP];
	uint64_t gen[ZD_BTT_GROUP];
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
	/* a waiter looks at it without the lock */
	__atomic_add_fetch(&btt->ring_turn, 1, __ATOMIC_RELAXED);
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

/* --- write --- */

int zd_btt_look_up(struct zd_btt *btt, uint64_t block, uint64_t *entry,
		   struct zd_btt_owner *owner)
{
	uint64_t off;
	int rc = zd_media_get64(btt->m, zd_btt_map_off(btt, block), entry);

	if (!rc && !zd_btt_is_entry(btt, *entry))
		rc = -EIO;
	if (rc)
		return rc;
	off = zd_btt_owner_off(btt, zd_btt_data_block(*entry));
	rc = zd_media_get64(btt->m, off, &owner->what);
	if (!rc)
		rc = zd_media_get64(btt->m, off + sizeof(owner->what), &owner->gen);
	if (!rc && zd_btt_agree(btt, block, *entry, owner) == ZD_BTT_NONE)
		rc = -EIO;
	return rc;
}

/* A lane must not get a data block that is another block's: so what the map says is what
 * the owner says, or nothing is written. */
static int read_map(struct batch *b)
{
	struct zd_btt_owner owner;
	int rc = 0;

	for (uint32_t i = 0; i < b->nr && !rc; i++)
		rc = zd_btt_look_up(b->btt, b->first + i, &b->old[i], &owner);
	return rc;
}

/* A part of a block: the rest is what it was. */
static int merge(struct batch *b, uint32_t i, uint64_t start, uint64_t len, struct zd_iter *from,
		 char *buf)
{
	int rc = zd_btt_fetch(b->btt, b->first + i, b->old[i], buf);

	if (rc)
		return rc;
	if (!from->iov)
		memset(buf + start, 0, len);
	return from->iov ? zd_iter_read(from, buf + start, len) : 0;
}

static int gather(struct batch *b, uint32_t i, uint64_t off, uint64_t end, struct zd_iter *from,
		  char *buf)
{
	uint64_t start, len;

	zd_btt_part_of(b->btt, b->first + i, off, end, &start, &len);
	if (len < b->btt->block)
		return merge(b, i, start, len, from, buf);
	if (from->iov)
		return zd_iter_read(from, buf, len);
	memset(buf, 0, len);
	return 0;
}

/* Step 1 of one block.  By way of a buffer: the caller's may change meanwhile, and what is
 * written is what the checksum is of. */
static int write_data(struct batch *b, uint32_t i, uint64_t off, uint64_t end,
		      struct zd_iter *from)
{
	struct zd_btt *btt = b->btt;
	uint32_t at = btt->lanes[b->lane[i]].free;
	_Alignas(64) char buf[4096];
	struct iovec iov = { buf, btt->block };
	struct zd_iter it = { .iov = &iov, .nr = 1 };
	uint64_t bad;
	int rc = gather(b, i, off, end, from, buf);

	if (rc)
		return rc;
	b->new[i] = zd_btt_data_entry(btt, b->first + i, at, buf);
	return zd_media_write(btt->m, zd_btt_data_off(btt, at), &it, btt->block, &bad);
}

/* Step 2 of one block. */
static int write_flog(struct batch *b, uint32_t i)
{
	struct zd_btt *btt = b->btt;
	struct zd_btt_lane *lane = &btt->lanes[b->lane[i]];
	struct zd_btt_slot slot = {
		.old_entry = b->old[i], .new_entry = b->new[i], .block = b->first + i,
		.gen = __atomic_add_fetch(&btt->gen, 1, __ATOMIC_RELAXED), .prev_gen = lane->gen,
	};

	b->gen[i] = slot.gen;
	return zd_btt_put_slot(btt, b->lane[i], lane->half, &slot);
}

static int put_owner(struct zd_btt *btt, uint32_t at, const struct zd_btt_owner *o)
{
	struct iovec iov = { (void *)o, sizeof(*o) };
	struct zd_iter it = { .iov = &iov, .nr = 1 };
	uint64_t bad;

	return zd_media_write(btt->m, zd_btt_owner_off(btt, at), &it, sizeof(*o), &bad);
}

/* Step 3 of one block: the lane's free block changes. */
static int write_map(struct batch *b, uint32_t i)
{
	struct zd_btt *btt = b->btt;
	struct zd_btt_lane *lane = &btt->lanes[b->lane[i]];
	struct zd_btt_owner o = zd_btt_make_owner(btt, lane->free, b->first + i, b->new[i] >> 32,
						  ZD_BTT_DATA, b->gen[i]);
	int rc = put_owner(btt, lane->free, &o);

	if (!rc)
		rc = zd_media_put64(btt->m, zd_btt_map_off(btt, b->first + i), b->new[i]);
	if (rc)
		return rc;
	lane->free = zd_btt_data_block(b->old[i]);
	lane->gen = b->gen[i];
	lane->half = !lane->half;
	return 0;
}

static void wait_readers(struct batch *b)
{
	uint32_t at[ZD_BTT_GROUP];

	for (uint32_t i = 0; i < b->nr; i++)
		at[i] = b->btt->lanes[b->lane[i]].free;
	zd_btt_wait_readers(b->btt, at, b->nr);
}

static int prepare(struct batch *b, uint64_t off, uint64_t end, struct zd_iter *from)
{
	uint64_t bad;
	int rc = read_map(b);

	wait_readers(b);
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
