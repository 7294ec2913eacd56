/* SPDX-License-Identifier: MIT */
/* All of a BTT's tables, in memory.  See tables.h. */
#include "drivers/btt/tables.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/btt/entry.h"
#include "drivers/btt/page_sums.h"

void zd_btt_check_say(const struct zd_btt_check *c, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (!c->say)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->say(c->arg, line);
}

uint8_t *zd_btt_check_page(const struct zd_btt_check *c, uint64_t off)
{
	return &c->bad_page[(off - c->btt->info.map_off) / ZD_PAGE_SIZE];
}

uint8_t *zd_btt_check_map_page(const struct zd_btt_check *c, uint64_t block)
{
	return zd_btt_check_page(c, zd_btt_map_off(c->btt, block));
}

uint8_t *zd_btt_check_owner_page(const struct zd_btt_check *c, uint64_t at)
{
	return zd_btt_check_page(c, zd_btt_owner_off(c->btt, at));
}

/* Read one table.  What can't be read is as if it were zeros, in a page that is bad. */
static void load(struct zd_btt_check *c, uint64_t off, void *to, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += ZD_PAGE_SIZE) {
		uint64_t n = len - i < ZD_PAGE_SIZE ? len - i : ZD_PAGE_SIZE;
		struct iovec iov = { (char *)to + i, n };
		struct zd_iter it = { .iov = &iov, .nr = 1 };
		uint64_t bad;

		if (!zd_media_read(c->btt->m, off + i, &it, n, &bad))
			continue;
		memset((char *)to + i, 0, n);
		*zd_btt_check_page(c, off + i) = 1;
		c->damaged = true;
	}
}

static int alloc_all(struct zd_btt_check *c)
{
	uint64_t nr = c->btt->nr_blocks, data = zd_btt_nr_data(c->btt);

	c->map = zd_alloc(nr * sizeof(c->map[0]));
	c->own = zd_alloc(data * sizeof(c->own[0]));
	c->placed = zd_alloc(nr);
	c->newest = zd_alloc(nr * sizeof(c->newest[0]));
	c->claim = zd_alloc(data * sizeof(c->claim[0]));
	c->bad_page = zd_alloc(zd_btt_nr_pages(c->btt));
	if (!c->map || !c->own || !c->placed || !c->newest || !c->claim || !c->bad_page)
		return -ENOMEM;
	memset(c->claim, 0xff, data * sizeof(c->claim[0]));
	return 0;
}

static int load_tables(struct zd_btt_check *c)
{
	struct zd_btt *btt = c->btt;
	uint64_t nr_bad, bad;
	int rc = zd_btt_bad_pages(btt, c->bad_page, &nr_bad);

	if (rc < 0)
		return rc;
	c->exact = !rc;
	c->damaged = c->exact ? nr_bad > 0 : btt->info.closed;
	if (!c->exact && btt->info.closed)
		zd_btt_check_say(c, "the sums of its pages are broken");
	load(c, btt->info.map_off, c->map, btt->nr_blocks * sizeof(c->map[0]));
	load(c, btt->info.owner_off, c->own, zd_btt_nr_data(btt) * sizeof(c->own[0]));
	rc = zd_btt_read_log(btt, c->exact ? c->bad_page : NULL, &c->log);
	if (!rc && zd_media_check_end(btt->m, 0, btt->m->bytes, &bad))
		rc = -EIO;
	/* a region that was closed has nothing to do again */
	for (uint32_t i = 0; i < c->log.nr_redo && !rc && !c->exact; i++) {
		const struct zd_btt_redo *r = &c->log.redo[i];

		c->nr_usual += r->changed;
		c->map[r->block] = r->entry;
		c->own[r->at] = r->owner;
	}
	return rc;
}

bool zd_btt_check_owner_is_valid(const struct zd_btt_check *c, uint64_t at)
{
	return zd_btt_owner_is_valid(c->btt, &c->own[at], at);
}

bool zd_btt_check_agrees(const struct zd_btt_check *c, uint64_t block)
{
	uint64_t entry = c->map[block];

	return zd_btt_is_entry(c->btt, entry) &&
	       zd_btt_agree(c->btt, block, entry, &c->own[zd_btt_data_block(entry)]) != ZD_BTT_NONE;
}

uint64_t zd_btt_check_implied(const struct zd_btt_check *c, uint32_t at)
{
	return zd_btt_implied_entry(c->btt, at, &c->own[at]);
}

bool zd_btt_check_content(const struct zd_btt_check *c, uint64_t block, uint64_t entry)
{
	_Alignas(64) char buf[4096];
	uint32_t at = zd_btt_data_block(entry);

	if (zd_btt_kind(entry) != ZD_BTT_DATA)
		return true;
	return !zd_media_get(c->btt->m, zd_btt_data_off(c->btt, at), buf, c->btt->block) &&
	       zd_btt_data_entry(c->btt, block, at, buf) == entry;
}

int zd_btt_check_load(struct zd_btt_check *c)
{
	int rc = alloc_all(c);

	return rc ? rc : load_tables(c);
}

void zd_btt_check_free(struct zd_btt_check *c)
{
	zd_btt_free_log(&c->log);
	zd_free(c->bad_page);
	zd_free(c->claim);
	zd_free(c->newest);
	zd_free(c->placed);
	zd_free(c->own);
	zd_free(c->map);
	zd_free(c);
}
