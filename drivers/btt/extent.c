/* SPDX-License-Identifier: MIT */
/* Which blocks of a BTT read as zeros. */
#include <errno.h>

#include "drivers/btt/block.h"

#define EXTENT_BLOCKS	65536u	/* looked at by one call */

/* Without the group's lock: the entry is one load, so what a writer stores meanwhile is seen whole,
 * or not at all. */
static int reads_as_zeros(struct zd_btt *btt, uint64_t block, bool *zero)
{
	struct zd_btt_owner o;
	uint64_t entry, again, off = zd_btt_map_off(btt, block);
	int rc = zd_media_get64(btt->m, off, &entry);

	if (rc || !zd_btt_is_entry(btt, entry))
		return rc ? rc : -EIO;
	*zero = zd_btt_kind(entry) == ZD_BTT_ZERO;
	if (!*zero)
		return 0;
	/* the caller won't read zeros that it is told of: so check them here */
	rc = zd_btt_look_up(btt, block, &again, &o);
	if (rc != -EIO)
		return rc;
	/* the two may disagree because the block was written just now */
	rc = zd_media_get64(btt->m, off, &again);
	if (rc || again == entry)
		return rc ? rc : -EIO;
	*zero = false;
	return 0;
}

/* Any thread; no lock. */
int64_t zd_btt_extent(struct zd_btt *btt, uint64_t off, uint64_t len, unsigned int *flags)
{
	uint64_t first = off / btt->block, block = first, end = off + len, bad;
	bool zero = false, same = false;
	int rc;

	/* a bounded search */
	if (end > (block + EXTENT_BLOCKS) * btt->block)
		end = (block + EXTENT_BLOCKS) * btt->block;
	for (; block * btt->block < end; block++) {
		rc = reads_as_zeros(btt, block, &same);
		if (rc && block == first)
			return rc;
		if (block == first)
			zero = same;
		/* a broken entry ends the run before it */
		if (rc || same != zero)
			break;
	}
	/* the map of a file that was cut may have read as zeros */
	rc = zd_btt_check_media(btt, off, &bad);
	if (rc)
		return rc;
	*flags = zero ? ZD_PMEM_EXTENT_HOLE | ZD_PMEM_EXTENT_ZERO : 0;
	return (block * btt->block < end ? block * btt->block : end) - off;
}
