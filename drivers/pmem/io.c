/* SPDX-License-Identifier: MIT */
/*
 * Requests.  Each is done by the thread that submits it: what takes time is the copy, and the
 * msync, which all threads that wait for it share (media/sync.c).
 */
#include <errno.h>

#include "drivers/btt/btt.h"
#include "drivers/media/record.h"
#include "drivers/pmem/pmem.h"

#define HEAL_TRIES	16

static int check_iov(const struct zd_pmem_request *req)
{
	uint64_t left = req->nr_sectors << ZD_SECTOR_SHIFT;

	for (unsigned int i = 0; i < req->nr_iov; i++) {
		if (req->iov[i].iov_len > left)
			return -EINVAL;
		left -= req->iov[i].iov_len;
	}
	return left ? -EINVAL : 0;
}

static int check(const struct zd_pmem *pmem, const struct zd_pmem_request *req)
{
	unsigned int flags = ZD_PMEM_NOWAIT | ZD_PMEM_FUA;

	switch (req->op) {
	case ZD_PMEM_FLUSH:
		if (req->flags & ~flags || req->sector || req->nr_sectors)
			return -EINVAL;
		return 0;
	case ZD_PMEM_WRITE_ZEROES:
	case ZD_PMEM_DISCARD:
		flags |= ZD_PMEM_NOUNMAP;
		break;
	case ZD_PMEM_READ:
	case ZD_PMEM_WRITE:
		break;
	default:
		return -EINVAL;
	}
	if (req->flags & ~flags)
		return -EINVAL;
	if (req->sector > pmem->info.nr_sectors ||
	    req->nr_sectors > pmem->info.nr_sectors - req->sector)
		return -ENOSPC;
	if (req->op != ZD_PMEM_READ && pmem->media.readonly)
		return -EROFS;
	return req->op <= ZD_PMEM_WRITE ? check_iov(req) : 0;
}

/* @rc of a transfer, or -EIO if the file was cut; *@bad is the first bad sector of both, as also
 * some of what was copied before an error may lie beyond the end. */
static int check_result(struct zd_media *m, int rc, uint64_t off, uint64_t len, uint64_t *bad)
{
	uint64_t end_bad;

	if ((rc && rc != -EIO) || !zd_media_check_end(m, off, len, &end_bad))
		return rc;
	if (!rc || end_bad < *bad)
		*bad = end_bad;
	return -EIO;
}

static int read_raw(struct zd_media *m, uint64_t off, struct zd_iter *it, uint64_t len,
		    uint64_t *bad)
{
	return check_result(m, zd_media_read(m, off, it, len, bad), off, len, bad);
}

/* The bad sectors there are mended. */
static int heal(struct zd_media *m, uint64_t off, uint64_t len, uint64_t marks, uint64_t *bad)
{
	int rc = zd_media_heal(m, off, len, marks);

	if (rc)
		*bad = off;
	return rc;
}

static int write_raw(struct zd_media *m, uint64_t off, struct zd_iter *it, uint64_t len,
		     uint64_t *bad)
{
	int rc = check_result(m, zd_media_write(m, off, it, len, bad), off, len, bad);

	return rc ? rc : heal(m, off, len, it->marks, bad);
}

static int zero_raw(struct zd_media *m, uint64_t off, uint64_t len, bool punch, uint64_t marks,
		    uint64_t *bad)
{
	int rc = check_result(m, zd_media_zero(m, off, len, punch, bad), off, len, bad);

	return rc ? rc : heal(m, off, len, marks, bad);
}

/* Everything that was completed before is durable; or this fails, and what isn't is bad. */
static int flush(struct zd_pmem *pmem)
{
	struct zd_media *m = &pmem->media;
	uint64_t bad;
	/* a BTT's writes are durable one by one */
	int rc = pmem->btt ? zd_media_sync_error(m) : zd_media_sync(m);

	return rc ? rc : zd_media_check_end(m, 0, m->bytes, &bad);
}

/* With FUA the request's own stores are made durable.  On DAX they are in any case: a later FLUSH
 * would not know which cache lines they are in. */
static int finish_write(struct zd_media *m, const struct zd_pmem_request *req)
{
	if (req->flags & ZD_PMEM_FUA)
		return zd_media_sync_range(m, req->sector << ZD_SECTOR_SHIFT,
					   req->nr_sectors << ZD_SECTOR_SHIFT);
	return m->drain_fn ? zd_media_order(m) : 0;
}

/* DISCARD of what can't be punched out may as well be nothing. */
static bool is_nothing(const struct zd_pmem *pmem, const struct zd_pmem_request *req)
{
	return req->op == ZD_PMEM_DISCARD && !pmem->btt && !pmem->media.has_holes;
}

static int transfer(struct zd_pmem *pmem, const struct zd_pmem_request *req, uint64_t marks,
		    uint64_t *bad)
{
	struct zd_iter it = { .iov = req->iov, .nr = req->nr_iov, .marks = marks };
	uint64_t off = req->sector << ZD_SECTOR_SHIFT, len = req->nr_sectors << ZD_SECTOR_SHIFT;
	bool punch = !(req->flags & ZD_PMEM_NOUNMAP);
	struct zd_media *m = &pmem->media;
	struct zd_btt *btt = pmem->btt;

	zd_iter_advance(&it, 0);	/* over empty ones at the start */
	switch (req->op) {
	case ZD_PMEM_READ:
		return btt ? zd_btt_read(btt, off, &it, len, bad) : read_raw(m, off, &it, len, bad);
	case ZD_PMEM_WRITE:
		return btt ? zd_btt_write(btt, off, &it, len, bad) :
			     write_raw(m, off, &it, len, bad);
	default:
		return btt ? zd_btt_zero(btt, off, len, punch, marks, bad) :
			     zero_raw(m, off, len, punch, marks, bad);
	}
}

/* May the request write bad sectors?  A write of a BTT goes to any free data block. */
static bool may_heal(struct zd_pmem *pmem, const struct zd_pmem_request *req)
{
	struct zd_badblocks *bb = &pmem->media.bad;

	if (req->op == ZD_PMEM_READ)
		return false;
	return pmem->btt ? zd_badblocks_any(bb) :
			   zd_badblocks_check(bb, req->sector, req->nr_sectors, NULL, NULL) == 1;
}

/*
 * Do the request, and do it again from its start if any sector has become bad meanwhile.  (Only
 * a sector that is new on the list counts, so that ends.)  A request that heals sectors which
 * other threads see become bad again and again gives up after HEAL_TRIES.
 */
static int transfer_all(struct zd_pmem *pmem, const struct zd_pmem_request *req, uint64_t *bad)
{
	struct zd_badblocks *bb = &pmem->media.bad;
	uint64_t sets, marks;
	int rc, tries = 0;
	bool again;

	do {
		bool heals;

		sets = zd_badblocks_sets(bb);
		marks = zd_badblocks_marks(bb);
		heals = may_heal(pmem, req);
		rc = transfer(pmem, req, marks, bad);
		again = heals && zd_badblocks_marks(bb) != marks;
		if (!rc && again && ++tries == HEAL_TRIES)
			rc = -EIO;
	} while (!rc && (again || zd_badblocks_sets(bb) != sets));
	if (rc || pmem->btt || req->op == ZD_PMEM_READ)
		return rc;
	return finish_write(&pmem->media, req);
}

static int run(struct zd_pmem *pmem, struct zd_pmem_request *req)
{
	uint64_t bad = req->sector << ZD_SECTOR_SHIFT;
	int rc = check(pmem, req);

	if (rc)
		return rc;
	if (req->op == ZD_PMEM_FLUSH)
		return flush(pmem);
	if (!req->nr_sectors || is_nothing(pmem, req))
		return 0;
	rc = transfer_all(pmem, req, &bad);
	if (rc == -EIO)
		req->bad_sector = bad >> ZD_SECTOR_SHIFT;
	return rc;
}

/* Any thread; blocks. */
static int do_request(struct zd_pmem *pmem, struct zd_pmem_request *req)
{
	int rc = zd_pmem_queue_enter(pmem, req->flags & ZD_PMEM_NOWAIT);

	if (rc)
		return rc;
	rc = run(pmem, req);
	/* what is lost is recorded before the caller hears of it; so is what is mended */
	if (rc == -EIO)
		zd_media_record(&pmem->media, ZD_RECORD_LOST);
	else if (!rc && (req->op == ZD_PMEM_FLUSH || req->flags & ZD_PMEM_FUA))
		zd_media_record(&pmem->media, ZD_RECORD_ALL);
	zd_pmem_queue_exit(pmem);
	return rc;
}

void zd_pmem_submit(struct zd_pmem *pmem, struct zd_pmem_request *req)
{
	req->end_io(req, do_request(pmem, req));
}

int zd_pmem_rw(struct zd_pmem *pmem, enum zd_pmem_op op, unsigned int flags, uint64_t sector,
	       uint64_t nr_sectors, void *buf)
{
	struct iovec iov = { buf, nr_sectors << ZD_SECTOR_SHIFT };
	struct zd_pmem_request req = {
		.op = op, .flags = flags, .sector = sector, .nr_sectors = nr_sectors,
		.iov = &iov, .nr_iov = buf ? 1 : 0,
	};

	return do_request(pmem, &req);
}

/* What a truncation made isn't a hole, neither while the file is short nor later. */
static int64_t raw_extent(struct zd_media *m, uint64_t off, uint64_t len, unsigned int *flags)
{
	uint64_t first, nr, bad;
	bool hole;
	int64_t n = zd_media_extent(m, off, len, &hole);

	*flags = hole ? ZD_PMEM_EXTENT_HOLE | ZD_PMEM_EXTENT_ZERO : 0;
	if (n <= 0 || !hole)
		return n;
	if (zd_media_check_end(m, off, n, &bad))
		return -EIO;
	if (!zd_badblocks_check(&m->bad, off >> ZD_SECTOR_SHIFT,
				(n + ZD_SECTOR_SIZE - 1) >> ZD_SECTOR_SHIFT, &first, &nr))
		return n;
	if (first << ZD_SECTOR_SHIFT > off)
		return (first << ZD_SECTOR_SHIFT) - off;
	*flags = 0;
	return nr << ZD_SECTOR_SHIFT;
}

/* Any thread; blocks while the queue is frozen. */
int64_t zd_pmem_extent(struct zd_pmem *pmem, uint64_t sector, uint64_t nr_sectors,
		       unsigned int *flags)
{
	uint64_t off = sector << ZD_SECTOR_SHIFT, len;
	int64_t n;
	int rc;

	if (sector >= pmem->info.nr_sectors || !nr_sectors)
		return -ENOSPC;
	if (nr_sectors > pmem->info.nr_sectors - sector)
		nr_sectors = pmem->info.nr_sectors - sector;
	len = nr_sectors << ZD_SECTOR_SHIFT;
	rc = zd_pmem_queue_enter(pmem, 0);
	if (rc)
		return rc;
	n = pmem->btt ? zd_btt_extent(pmem->btt, off, len, flags) :
			raw_extent(&pmem->media, off, len, flags);
	if (n <= 0)
		zd_media_record(&pmem->media, ZD_RECORD_LOST);
	zd_pmem_queue_exit(pmem);
	if (n <= 0)
		return n ? n : -EIO;
	n >>= ZD_SECTOR_SHIFT;
	return n ? n : 1;
}
