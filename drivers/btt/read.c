/* SPDX-License-Identifier: MIT */
/* Reading a BTT's blocks, beside its writers: readers.h tells how. */
#include <errno.h>

#include "drivers/btt/block.h"
#include "drivers/btt/readers.h"

/* Load the block's entry; its data block stays as it is until the slot is empty. */
static int announce(struct zd_btt *btt, uint64_t block, uint32_t *slot, uint64_t *entry)
{
	uint64_t off = zd_btt_map_off(btt, block), again;
	int rc = zd_media_get64(btt->m, off, entry);

	while (!rc) {
		zd_btt_set_reader(slot, zd_btt_data_block(*entry) + 1);
		rc = zd_media_get64(btt->m, off, &again);
		if (again == *entry)
			break;
		*entry = again;
	}
	return rc || zd_btt_is_entry(btt, *entry) ? rc : -EIO;
}

/* By way of a buffer: so what was checked is what the caller gets. */
static int read_block(struct zd_btt *btt, uint64_t block, uint32_t *slot, uint64_t off,
		      uint64_t end, struct zd_iter *to, uint64_t *bad)
{
	uint64_t start, len, entry;
	_Alignas(64) char buf[4096];
	int rc = announce(btt, block, slot, &entry);

	zd_btt_part_of(btt, block, off, end, &start, &len);
	*bad = block * btt->block + start;
	if (!rc)
		rc = zd_btt_fetch(btt, block, entry, buf);
	return rc ? rc : zd_iter_write(to, buf + start, len);
}

/* Any thread; waits for no writer. */
int zd_btt_read(struct zd_btt *btt, uint64_t off, struct zd_iter *to, uint64_t len, uint64_t *bad)
{
	uint64_t end = off + len;
	uint32_t *slot = zd_btt_take_reader(btt);
	int rc = 0;

	for (uint64_t block = off / btt->block; block * btt->block < end && !rc; block++)
		rc = read_block(btt, block, slot, off, end, to, bad);
	zd_btt_set_reader(slot, 0);
	return rc ? rc : zd_btt_check_media(btt, off, bad);
}
