/* SPDX-License-Identifier: MIT */
/*
 * A sum of each page of a BTT's tables, as they were when the region was closed: so a page that was
 * lost, changed, exchanged with another, or that comes back from an earlier time, is found out,
 * whatever else is damaged.  In a region that wasn't closed the sums aren't right.
 */
#include <errno.h>

#include "base/alloc.h"
#include "drivers/btt/page_sums.h"
#include "drivers/media/crc32c.h"

uint64_t zd_btt_nr_pages(const struct zd_btt *btt)
{
	return (btt->info.sums_off - btt->info.map_off) / ZD_PAGE_SIZE;
}

static int page_sum(struct zd_btt *btt, uint64_t page, uint32_t *sum)
{
	_Alignas(64) char buf[ZD_PAGE_SIZE];
	struct iovec iov = { buf, sizeof(buf) };
	struct zd_iter it = { .iov = &iov, .nr = 1 };
	uint64_t bad;
	int rc = zd_media_read(btt->m, btt->info.map_off + page * ZD_PAGE_SIZE, &it, sizeof(buf),
			       &bad);

	*sum = rc ? 0 : zd_crc32c_x4(buf, sizeof(buf));
	return rc;
}

static uint32_t sums_sum(const struct zd_btt *btt, const uint32_t *sums)
{
	return zd_crc32c(btt->seed, sums, zd_btt_nr_pages(btt) * sizeof(*sums));
}

static uint64_t sums_off(const struct zd_btt *btt, uint32_t copy)
{
	uint64_t bytes = zd_btt_nr_pages(btt) * sizeof(uint32_t);

	return btt->info.sums_off + copy * ((bytes + ZD_PAGE_SIZE - 1) & ZD_PAGE_MASK);
}

/* 0: this copy of the sums is right. */
static int read_sums(struct zd_btt *btt, uint32_t *sums, uint32_t copy)
{
	return zd_media_get(btt->m, sums_off(btt, copy), sums,
			    zd_btt_nr_pages(btt) * sizeof(*sums)) ||
	       sums_sum(btt, sums) != btt->info.sums_sum;
}

/* The BTT is in use by no other thread.  Blocks. */
int zd_btt_bad_pages(struct zd_btt *btt, uint8_t *bad, uint64_t *nr_bad)
{
	uint64_t nr = zd_btt_nr_pages(btt), where;
	uint32_t *sums, sum;
	int rc;

	*nr_bad = 0;
	if (!btt->info.closed)
		return 1;
	sums = zd_alloc(nr * sizeof(*sums));
	if (!sums)
		return -ENOMEM;
	rc = read_sums(btt, sums, 0) && read_sums(btt, sums, 1);
	for (uint64_t page = 0; page < nr && !rc; page++) {
		bad[page] = page_sum(btt, page, &sum) || sum != sums[page];
		*nr_bad += bad[page];
	}
	zd_free(sums);
	return zd_media_check_end(btt->m, 0, btt->m->bytes, &where) ? -EIO : rc;
}

/* The BTT is in use by no other thread.  Blocks. */
int zd_btt_put_sums(struct zd_btt *btt)
{
	uint64_t nr = zd_btt_nr_pages(btt);
	uint32_t *sums = zd_alloc(nr * sizeof(*sums));
	int rc = sums ? 0 : -ENOMEM;

	for (uint64_t page = 0; page < nr && !rc; page++)
		rc = page_sum(btt, page, &sums[page]);
	if (!rc)
		rc = zd_media_put(btt->m, sums_off(btt, 0), sums, nr * sizeof(*sums));
	if (!rc)
		rc = zd_media_put(btt->m, sums_off(btt, 1), sums, nr * sizeof(*sums));
	if (!rc)
		btt->info.sums_sum = sums_sum(btt, sums);
	zd_free(sums);
	return rc;
}
