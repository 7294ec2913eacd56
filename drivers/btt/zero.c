/* SPDX-License-Identifier: MIT */
/* Blocks of a BTT that read as zeros from now on. */
#include <errno.h>

#include "drivers/btt/block.h"
#include "drivers/btt/entry.h"
#include "drivers/btt/lanes.h"
#include "drivers/btt/readers.h"

#define WIPED		UINT64_C(0xd15ca4dedb10c4ed)	/* in place of a content's first word */

/*
 * Only the kind changes, of the owner and of the map's entry, by a store each; if one of the two
 * stores is lost the other is enough (zd_btt_agree()).  So the flog isn't needed: the block has
 * its old content, or zeros.  The group's lock is held.
 */
static int mark_block(struct zd_btt *btt, uint64_t block)
{
	struct zd_btt_owner o;
	uint64_t entry;
	uint32_t at;
	int rc = zd_btt_look_up(btt, block, &entry, &o);

	if (rc)
		return rc;
	at = zd_btt_data_block(entry);
	if (zd_btt_kind(entry) == ZD_BTT_ZERO && zd_btt_owner_kind(&o) == ZD_BTT_ZERO)
		return 0;
	o = zd_btt_make_owner(btt, at, block, o.what >> 32, ZD_BTT_ZERO, zd_btt_owner_gen(&o));
	rc = zd_media_put64(btt->m, zd_btt_owner_off(btt, at) + sizeof(o.what), o.gen);
	if (rc)
		return rc;
	entry = zd_btt_kind_entry(btt, block, at, ZD_BTT_ZERO, zd_btt_owner_gen(&o));
	return zd_media_put64(btt->m, zd_btt_map_off(btt, block), entry);
}

/* Mark some blocks of a group.  Not if the BTT has failed: the write that failed between flog and
 * map, under the group's lock, has left an entry that recovery must find as it is. */
static int mark_zero(struct zd_btt *btt, uint64_t first, uint32_t nr)
{
	struct zd_mutex *lock = zd_btt_group_lock(btt, first);
	int rc;

	zd_mutex_lock(lock);
	rc = zd_btt_has_failed(btt) ? -EIO : 0;
	for (uint32_t i = 0; i < nr && !rc; i++)
		rc = mark_block(btt, first + i);
	/* With CLWB, before the lock is dropped: a writer of the block will log the entry as it is
	 * now.  With msync() the writer's own step 1 makes the entry durable in time. */
	if (!rc && btt->m->drain_fn)
		rc = zd_media_order(btt->m);
	zd_mutex_unlock(lock);
	return rc;
}

/*
 * When a block durably reads as zeros its old content is made unreadable: then an old page of the
 * map that comes back is found out by the content's checksum.  The storage of the data block is
 * given back, if that can be done; else one word of it is overwritten, which is enough.
 */
static void wipe(struct zd_btt *btt, uint32_t at, bool punch)
{
	uint64_t off = zd_btt_data_off(btt, at), word;

	if (punch)
		zd_media_punch(btt->m, off, btt->block);
	else if (!zd_media_get64(btt->m, off, &word) && word != WIPED)
		zd_media_put64(btt->m, off, WIPED);
}

/* The group's lock is held.  If another zeroing is, or was, under way beside this one, the marks
 * seen here may be its, and not durable yet: the contents must not be wiped before the marks
 * are. */
static int order_marks(struct zd_btt *btt, uint64_t ticket)
{
	if (btt->m->drain_fn || (__atomic_load_n(&btt->zeroings, __ATOMIC_RELAXED) == ticket &&
				 __atomic_load_n(&btt->zeroed, __ATOMIC_RELAXED) == ticket - 1))
		return 0;
	return zd_media_order(btt->m);
}

/* Wipe the contents of those blocks of a group that are marked. */
static int wipe_zero(struct zd_btt *btt, uint64_t first, uint32_t nr, bool punch, uint64_t ticket)
{
	struct zd_mutex *lock = zd_btt_group_lock(btt, first);
	uint32_t at[ZD_BTT_GROUP], n = 0;
	struct zd_btt_owner o;
	uint64_t entry;
	int rc;

	zd_mutex_lock(lock);
	rc = zd_btt_has_failed(btt) ? -EIO : 0;
	for (uint32_t i = 0; i < nr && !rc; i++) {
		rc = zd_btt_look_up(btt, first + i, &entry, &o);
		/* generation 0: never written */
		if (!rc && zd_btt_kind(entry) == ZD_BTT_ZERO && zd_btt_owner_gen(&o))
			at[n++] = zd_btt_data_block(entry);
	}
	if (!rc && n)
		rc = order_marks(btt, ticket);
	if (!rc && n)
		zd_btt_wait_readers(btt, at, n);
	for (uint32_t i = 0; i < n && !rc; i++)
		wipe(btt, at[i], punch);
	zd_mutex_unlock(lock);
	return rc;
}

static int mark_all(struct zd_btt *btt, uint64_t first, uint64_t end)
{
	int rc = 0;

	while (first < end && !rc) {
		uint32_t nr = zd_btt_nr_in_group(btt, first, end * btt->block);

		rc = mark_zero(btt, first, nr);
		first += nr;
	}
	return rc;
}

static int wipe_all(struct zd_btt *btt, uint64_t first, uint64_t end, bool punch, uint64_t ticket)
{
	int rc = 0;

	while (first < end && !rc) {
		uint32_t nr = zd_btt_nr_in_group(btt, first, end * btt->block);

		rc = wipe_zero(btt, first, nr, punch, ticket);
		first += nr;
	}
	return rc;
}

static int zero_part(struct zd_btt *btt, uint64_t off, uint64_t end, uint64_t marks, uint64_t *bad)
{
	struct zd_iter zeros = { .iov = NULL, .marks = marks };

	return off < end ? zd_btt_write(btt, off, &zeros, end - off, bad) : 0;
}

static int zero_blocks(struct zd_btt *btt, uint64_t first, uint64_t end, bool punch)
{
	uint64_t ticket = __atomic_add_fetch(&btt->zeroings, 1, __ATOMIC_RELAXED);
	int rc = mark_all(btt, first, end);

	if (!rc)
		rc = zd_media_order(btt->m);
	punch = punch && btt->block == ZD_PAGE_SIZE && btt->m->has_holes;
	if (!rc)
		rc = wipe_all(btt, first, end, punch, ticket);
	__atomic_add_fetch(&btt->zeroed, 1, __ATOMIC_RELAXED);
	return rc;
}

/* Any thread that has no lane; blocks. */
int zd_btt_zero(struct zd_btt *btt, uint64_t off, uint64_t len, bool punch, uint64_t marks,
		uint64_t *bad)
{
	uint64_t end = off + len, first = (off + btt->block - 1) / btt->block;
	uint64_t last = end / btt->block;
	int rc;

	*bad = off;
	if (first >= last)
		return zero_part(btt, off, end, marks, bad);
	rc = zero_part(btt, off, first * btt->block, marks, bad);
	if (!rc)
		rc = zero_blocks(btt, first, last, punch);
	if (!rc)
		rc = zero_part(btt, last * btt->block, end, marks, bad);
	return rc ? rc : zd_btt_check_media(btt, off, bad);
}
