/* SPDX-License-Identifier: MIT */
/* Blocks of a BTT that read as zeros.  See btt.h. */
#include "drivers/btt.h"

#include <errno.h>

#define EXTENT_BLOCKS	65536u

/* Under the group's lock.  Who has failed between flog and map, under that lock, has left
 * an entry that recovery must find as it is. */
static int read_map(struct zd_btt *btt, uint64_t first, uint32_t nr, uint32_t *map)
{
	return zd_btt_has_failed(btt) ? -EIO : zd_btt_read_map(btt, first, nr, map);
}

/* Only the entries' bit changes, so there is nothing for the flog: the old content or
 * zeros, by one store. */
static int mark_zero(struct zd_btt *btt, uint64_t first, uint32_t nr)
{
	struct zd_mutex *lock = zd_btt_group_lock(btt, first);
	uint32_t map[ZD_BTT_GROUP];
	int rc;

	zd_mutex_lock(lock);
	rc = read_map(btt, first, nr, map);
	for (uint32_t i = 0; i < nr && !rc; i++)
		if (!zd_btt_reads_as_zeros(map[i]))
			rc = zd_media_put32(btt->m, zd_btt_map_off(btt, first + i),
					    map[i] | ZD_BTT_MAP_ZERO);
	/* before anybody writes one of them: his flog tells of the entry as it is now.
	 * With msync his own step 1 makes it durable in time. */
	if (!rc && btt->m->drain_fn)
		rc = zd_media_order(btt->m);
	zd_mutex_unlock(lock);
	return rc;
}

/* The storage of what reads as zeros, durably.  Not by stores where it can't be given
 * back: nothing reads it, and in a block that somebody has just written, and another
 * marked, they would be seen if the mark is lost with the power. */
static int punch_zero(struct zd_btt *btt, uint64_t first, uint32_t nr)
{
	struct zd_mutex *lock = zd_btt_group_lock(btt, first);
	uint32_t map[ZD_BTT_GROUP];
	int rc;

	zd_mutex_lock(lock);
	rc = read_map(btt, first, nr, map);
	for (uint32_t i = 0; i < nr && !rc; i++)
		if (map[i] & ZD_BTT_MAP_ZERO)
			zd_media_punch(btt->m, zd_btt_data_off(btt, map[i] & ZD_BTT_MAP_BLOCK),
				       btt->block);
	zd_mutex_unlock(lock);
	return rc;
}

static int each_group(struct zd_btt *btt, uint64_t first, uint64_t end,
		      int (*fn)(struct zd_btt *btt, uint64_t first, uint32_t nr))
{
	int rc = 0;

	while (first < end && !rc) {
		uint32_t nr = zd_btt_in_group(btt, first, end * btt->block);

		rc = fn(btt, first, nr);
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
	int rc = each_group(btt, first, end, mark_zero);

	if (!rc)
		rc = zd_media_order(btt->m);
	if (!rc && punch && btt->block == ZD_PAGE_SIZE && btt->m->has_holes)
		rc = each_group(btt, first, end, punch_zero);
	return rc;
}

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

int64_t zd_btt_extent(struct zd_btt *btt, uint64_t off, uint64_t len, unsigned int *flags)
{
	uint64_t block = off / btt->block, end = off + len, bad;
	uint32_t map[ZD_BTT_GROUP];
	bool first = true, zero = false;
	int rc;

	/* not too long a search */
	if (end > (block + EXTENT_BLOCKS) * btt->block)
		end = (block + EXTENT_BLOCKS) * btt->block;
	while (block * btt->block < end) {
		uint32_t nr = zd_btt_in_group(btt, block, end);

		rc = zd_btt_read_map(btt, block, nr, map);
		if (rc)
			return rc;
		for (uint32_t i = 0; i < nr; i++, block++) {
			if (!first && zd_btt_reads_as_zeros(map[i]) != zero)
				goto out;
			zero = zd_btt_reads_as_zeros(map[i]);
			first = false;
		}
	}
out:
	/* entries of a map that was cut are zeros, too */
	rc = zd_btt_check_media(btt, off, &bad);
	if (rc)
		return rc;
	*flags = zero ? ZD_PMEM_EXTENT_HOLE | ZD_PMEM_EXTENT_ZERO : 0;
	return (block * btt->block < end ? block * btt->block : end) - off;
}
