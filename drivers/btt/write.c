/* SPDX-License-Identifier: MIT */
/* Blocks that are written as a whole or not at all: the three steps of btt.h. */
#include <errno.h>
#include <string.h>

#include "drivers/btt/block.h"
#include "drivers/btt/entry.h"
#include "drivers/btt/flog.h"
#include "drivers/btt/lanes.h"
#include "drivers/btt/readers.h"

/* Some blocks of one group that are written together: by the thread that has made this, and has
 * their lanes; from read_map() on with the group's lock held. */
struct batch {
	struct zd_btt *btt;
	uint64_t first;			/* block */
	uint32_t nr;
	uint64_t old[ZD_BTT_GROUP];	/* map entries */
	uint64_t new[ZD_BTT_GROUP];
	uint64_t gen[ZD_BTT_GROUP];
	uint32_t lane[ZD_BTT_GROUP];
};

/* The entries that the lanes will take their next data blocks from.  A lane must not get a data
 * block that is another block's: so if map and owner disagree, nothing is written. */
static int read_map(struct batch *b)
{
	struct zd_btt_owner owner;
	int rc = 0;

	for (uint32_t i = 0; i < b->nr && !rc; i++)
		rc = zd_btt_look_up(b->btt, b->first + i, &b->old[i], &owner);
	return rc;
}

/* A part of a block is written: the rest stays what it was. */
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

/* Step 1 of one block.  By way of a buffer, as the caller's may change meanwhile: so the content
 * that is written is that which the checksum is of. */
static int write_data(struct batch *b, uint32_t i, uint64_t off, uint64_t end, struct zd_iter *from)
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

/* Step 3 of one block; then the lane's free data block is the block's old one. */
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

/* Step 1 of all blocks, durable. */
static int prepare(struct batch *b, uint64_t off, uint64_t end, struct zd_iter *from)
{
	uint64_t bad;
	int rc = read_map(b);

	wait_readers(b);
	for (uint32_t i = 0; i < b->nr && !rc; i++)
		rc = write_data(b, i, off, end, from);
	if (!rc)
		rc = zd_media_order(b->btt->m);
	/* data beyond the end of a file that was cut would not be there later */
	if (!rc)
		rc = zd_btt_check_media(b->btt, off, &bad);
	for (uint32_t i = 0; i < b->nr && !rc; i++)
		zd_media_heal(b->btt->m, zd_btt_data_off(b->btt, b->btt->lanes[b->lane[i]].free),
			      b->btt->block, from->marks);
	return rc;
}

/* Steps 2 and 3 of all blocks. */
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
	/* with msync() the step 1 of a later write makes the map durable, in time: see btt.h */
	return !rc && m->drain_fn ? zd_media_order(m) : rc;
}

/* The group's lock is held. */
static int write_group(struct batch *b, uint64_t off, uint64_t end, struct zd_iter *from)
{
	int rc = zd_btt_has_failed(b->btt) ? -EIO : prepare(b, off, end, from);

	if (rc)
		return rc;
	rc = commit(b);
	if (rc)
		zd_btt_fail(b->btt);
	return rc;
}

/* Any thread that has no lane; blocks. */
int zd_btt_write(struct zd_btt *btt, uint64_t off, struct zd_iter *from, uint64_t len,
		 uint64_t *bad)
{
	uint64_t end = off + len, next;
	int rc = 0;

	for (; off < end && !rc; off = next) {
		struct batch b = { .btt = btt, .first = off / btt->block };
		struct zd_mutex *lock = zd_btt_group_lock(btt, b.first);

		*bad = off;
		b.nr = zd_btt_take_lanes(btt, zd_btt_nr_in_group(btt, b.first, end), b.lane);
		if (!b.nr)
			return -EIO;
		next = (b.first + b.nr) * btt->block < end ? (b.first + b.nr) * btt->block : end;
		zd_mutex_lock(lock);
		rc = write_group(&b, off, next, from);
		zd_mutex_unlock(lock);
		zd_btt_put_lanes(btt, b.nr, b.lane);
	}
	return rc ? rc : zd_btt_check_media(btt, end - len, bad);
}
