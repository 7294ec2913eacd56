/* SPDX-License-Identifier: MIT */
/*
 * A damaged BTT put right: the tables as resolve.c has made them are stored.
 *
 * The order of writing: map and owners, durable, then the flog.  If the mending is interrupted the
 * BTT is damaged as before, and the next check mends it.
 */
#include <string.h>

#include "drivers/btt/tables.h"

/* Store the pages of a table that differ from those on the media. */
static int put_table(struct zd_btt_check *c, uint64_t off, const void *from, uint64_t len)
{
	char buf[ZD_PAGE_SIZE];
	int rc = 0;

	for (uint64_t i = 0; i < len && !rc; i += ZD_PAGE_SIZE) {
		uint64_t n = len - i < ZD_PAGE_SIZE ? len - i : ZD_PAGE_SIZE;
		const char *page = (const char *)from + i;

		if (zd_media_get(c->btt->m, off + i, buf, n) || memcmp(buf, page, n))
			rc = zd_media_put(c->btt->m, off + i, page, n);
	}
	return rc;
}

/* One thread, with the region to itself; blocks. */
int zd_btt_check_apply(struct zd_btt_check *c)
{
	struct zd_btt *btt = c->btt;
	/* If nothing is damaged, the log as it is must be durable before the writes that it tells
	 * of are done again.  A new log must not be durable before the tables fit it. */
	int rc = c->damaged ? 0 : zd_btt_put_newest(btt, &c->log);

	if (!rc)
		rc = put_table(c, btt->info.map_off, c->map, btt->nr_blocks * sizeof(c->map[0]));
	if (!rc)
		rc = put_table(c, btt->info.owner_off, c->own,
			       zd_btt_nr_data(btt) * sizeof(c->own[0]));
	if (!rc)
		rc = zd_media_sync(btt->m);
	if (!rc && c->damaged)
		rc = zd_btt_put_newest(btt, &c->log);
	return rc ? rc : zd_btt_put_older(btt, &c->log);
}
