/* SPDX-License-Identifier: MIT */
/* One block of a BTT: its lock, its entries, its content.  See block.h. */
#include "drivers/btt/block.h"

#include <errno.h>
#include <string.h>

#include "drivers/btt/entry.h"
#include "zonedev/log.h"

struct zd_mutex *zd_btt_group_lock(struct zd_btt *btt, uint64_t block)
{
	return &btt->group[block / ZD_BTT_GROUP % ZD_BTT_LOCKS];
}

uint32_t zd_btt_nr_in_group(const struct zd_btt *btt, uint64_t first, uint64_t end)
{
	uint64_t last = (end + btt->block - 1) / btt->block;
	uint64_t group_end = (first / ZD_BTT_GROUP + 1) * ZD_BTT_GROUP;

	return (last < group_end ? last : group_end) - first;
}

void zd_btt_part_of(const struct zd_btt *btt, uint64_t block, uint64_t off, uint64_t end,
		    uint64_t *start, uint64_t *len)
{
	uint64_t block_off = block * btt->block;

	*start = off > block_off ? off - block_off : 0;
	*len = (end < block_off + btt->block ? end - block_off : btt->block) - *start;
}

static int read_owner(struct zd_btt *btt, uint32_t at, struct zd_btt_owner *owner)
{
	uint64_t off = zd_btt_owner_off(btt, at);
	int rc = zd_media_get64(btt->m, off, &owner->what);

	return rc ? rc : zd_media_get64(btt->m, off + sizeof(owner->what), &owner->gen);
}

/* Any thread; the group's lock is held if a write beside this would matter.  Doesn't block but
 * for page faults. */
int zd_btt_look_up(struct zd_btt *btt, uint64_t block, uint64_t *entry, struct zd_btt_owner *owner)
{
	int rc = zd_media_get64(btt->m, zd_btt_map_off(btt, block), entry);

	if (!rc && !zd_btt_is_entry(btt, *entry))
		rc = -EIO;
	if (!rc)
		rc = read_owner(btt, zd_btt_data_block(*entry), owner);
	if (!rc && zd_btt_agree(btt, block, *entry, owner) == ZD_BTT_NONE)
		rc = -EIO;
	return rc;
}

/* Is the block zeros, as its entry says without any content that could be checked? */
static int check_zero(struct zd_btt *btt, uint64_t block, uint64_t entry)
{
	struct zd_btt_owner o;
	int rc = read_owner(btt, zd_btt_data_block(entry), &o);

	if (rc)
		return rc;
	return zd_btt_agree(btt, block, entry, &o) == ZD_BTT_ZERO ? 0 : -EIO;
}

/* Any thread that keeps the data block from being written: a reader's slot, the group's lock. */
int zd_btt_fetch(struct zd_btt *btt, uint64_t block, uint64_t entry, void *buf)
{
	struct iovec iov = { buf, btt->block };
	struct zd_iter it = { .iov = &iov, .nr = 1 };
	uint32_t at = zd_btt_data_block(entry);
	uint64_t bad;
	int rc;

	switch (zd_btt_kind(entry)) {
	case ZD_BTT_ZERO:
		memset(buf, 0, btt->block);
		return check_zero(btt, block, entry);
	case ZD_BTT_DATA:
		rc = zd_media_read(btt->m, zd_btt_data_off(btt, at), &it, btt->block, &bad);
		if (rc || zd_btt_data_entry(btt, block, at, buf) == entry)
			return rc;
		zd_warn_once(
			"pmem: a block of a BTT isn't what was written there: reads of it fail until it is written anew (zonedev check --data names all such blocks)");
		return -EIO;
	default:
		return -EIO;
	}
}

int zd_btt_check_media(struct zd_btt *btt, uint64_t off, uint64_t *bad)
{
	uint64_t where;

	if (!zd_media_check_end(btt->m, 0, btt->m->bytes, &where))
		return 0;
	*bad = off;
	return -EIO;
}
