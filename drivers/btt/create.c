/* SPDX-License-Identifier: MIT */
/*
 * A BTT laid out.
 *
 * The first info block says that it is being laid out; then come the tables; then the other info
 * blocks; then the first one again; each durable before the next.  So where any info block is
 * valid, all else is there; and where only that first one is, no block was ever written.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "drivers/btt/entry.h"
#include "drivers/btt/flog.h"
#include "drivers/btt/info.h"

#define DEFAULT_BLOCK	4096u
#define CHUNK		65536u

static const char magic[16] = ZD_BTT_MAGIC;

struct filler {
	struct zd_btt *btt;
	char buf[CHUNK];
	uint64_t off;			/* where the buffer goes */
	size_t used;
};

/* Store what is in the buffer. */
static int flush(struct filler *f)
{
	int rc = f->used ? zd_media_put(f->btt->m, f->off, f->buf, f->used) : 0;

	f->off += f->used;
	f->used = 0;
	return rc;
}

static int add(struct filler *f, const void *data, size_t len)
{
	int rc = f->used + len > sizeof(f->buf) ? flush(f) : 0;

	memcpy(f->buf + f->used, data, len);
	f->used += len;
	return rc;
}

/* Block b is in data block b, and reads as zeros. */
static int fill_map(struct filler *f)
{
	struct zd_btt *btt = f->btt;
	int rc = 0;

	f->off = btt->info.map_off;
	for (uint64_t b = 0; b < btt->nr_blocks && !rc; b++) {
		uint64_t entry = zd_btt_kind_entry(btt, b, b, ZD_BTT_ZERO, 0);

		rc = add(f, &entry, sizeof(entry));
	}
	return rc ? rc : flush(f);
}

static int fill_owners(struct filler *f)
{
	struct zd_btt *btt = f->btt;
	int rc = 0;

	f->off = btt->info.owner_off;
	for (uint64_t d = 0; d < zd_btt_nr_data(btt) && !rc; d++) {
		uint32_t block = d < btt->nr_blocks ? d : ZD_BTT_NO_BLOCK;
		struct zd_btt_owner o = zd_btt_make_owner(btt, d, block, 0, ZD_BTT_ZERO, 0);

		rc = add(f, &o, sizeof(o));
	}
	return rc ? rc : flush(f);
}

static int fill_flog(struct filler *f, uint32_t half, uint32_t copy)
{
	struct zd_btt *btt = f->btt;
	int rc = 0;

	f->off = zd_btt_slot_off(btt, 0, half, copy);
	for (uint32_t i = 0; i < btt->nr_lanes && !rc; i++) {
		struct zd_btt_slot s = zd_btt_blank_slot(btt->nr_blocks + i, 0, 0);

		s.checksum = zd_btt_slot_sum(btt, &s, i, half);
		rc = add(f, &s, sizeof(s));
	}
	return rc ? rc : flush(f);
}

static int fill(struct zd_btt *btt)
{
	struct filler *f = zd_alloc(sizeof(*f));
	uint64_t bad;
	int rc;

	if (!f)
		return -ENOMEM;
	f->btt = btt;
	/* also what lies behind the last entries: whole pages have sums */
	rc = zd_media_zero(btt->m, btt->info.map_off, btt->info.info_off[2] - btt->info.map_off,
			   false, &bad);
	if (!rc)
		rc = fill_map(f);
	if (!rc)
		rc = fill_owners(f);
	for (uint32_t part = 0; part < 4 && !rc; part++)
		rc = fill_flog(f, part % 2, part / 2);
	zd_free(f);
	return rc ? rc : zd_media_sync(btt->m);
}

static void make_uuid(struct zd_media *m, struct zd_btt_info_block *info)
{
	uint64_t other[2] = { m->identity.ino, m->identity.born_ns };

	if (getrandom(info->uuid, sizeof(info->uuid), GRND_NONBLOCK) < 0)
		memcpy(info->uuid, other, sizeof(other));
}

/* Stored so that it is whole, or not to be known for an info block. */
static int put_first(struct zd_media *m, struct zd_btt_info_block *info)
{
	int rc;

	info->checksum = zd_btt_info_sum(info);
	memset(info->magic, 0, sizeof(info->magic));
	rc = zd_media_put(m, 0, info, sizeof(*info));
	memcpy(info->magic, magic, sizeof(magic));
	if (!rc)
		rc = zd_media_sync(m);
	if (!rc)
		rc = zd_media_put(m, 0, info->magic, sizeof(info->magic));
	return rc ? rc : zd_media_sync(m);
}

/* The thread that opens the region; blocks. */
int zd_btt_create(struct zd_media *m, uint32_t block, struct zd_btt_info_block *info)
{
	struct zd_btt *btt;
	int rc;

	memset(info, 0, sizeof(*info));
	memcpy(info->magic, magic, sizeof(magic));
	info->version = ZD_BTT_UNFINISHED;
	info->block = block ? block : DEFAULT_BLOCK;
	info->media_bytes = m->bytes;
	rc = zd_btt_set_places(info);
	if (rc)
		return rc;
	make_uuid(m, info);
	btt = zd_btt_alloc(m, info);
	if (!btt)
		return -ENOMEM;
	rc = put_first(m, info);
	if (!rc)
		rc = fill(btt);
	btt->info.version = ZD_BTT_VERSION;
	if (!rc)
		rc = zd_btt_put_infos(btt);
	*info = btt->info;
	zd_btt_free(btt);
	return rc;
}
