/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes of a mapped file that may fail page by page.
 *
 * Everything that touches the mapping does so by guarded routines (base/fault_guard.h).  A
 * page that faults is
 *
 *	poisoned for a test	a write heals it, sector by sector
 *	without storage		a write into a hole of a full file system raises
 *				SIGBUS, too: fallocate() tells, and may help.  (In a
 *				tmpfs even a load does: pread() reads zeros there)
 *	beyond the end		another process has truncated the file
 *	broken			all else
 *
 * and the last two join the bad blocks.  A file that was cut may also read as zeros, which no
 * fault tells: see length.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fault_guard.h"
#include "drivers/media/record.h"

#define NO_PAGE		UINT64_MAX
#define MAX_MENDED	64u

/* --- faults --- */

/* Is @addr in the pages of [off, off + len)?  A caller's buffer may be in the media, too. */
static bool is_at(const struct zd_media *m, uintptr_t addr, uint64_t off, uint64_t len)
{
	uint64_t at = addr - (uintptr_t)m->base;

	return at >= (off & ZD_PAGE_MASK) && at < ((off + len + ZD_PAGE_SIZE - 1) & ZD_PAGE_MASK);
}

/* A page could not be written to.  0: try again; -EIO; -ENOSPC. */
static int write_fault(struct zd_media *m, uint64_t page)
{
	uint64_t bad;

	if (zd_media_heal_poison(m, page))
		return 0;
	if (zd_media_check_end(m, page * ZD_PAGE_SIZE, ZD_PAGE_SIZE, &bad))
		return -EIO;
	if (m->can_allocate) {
		if (!fallocate(m->fd, FALLOC_FL_KEEP_SIZE, page * ZD_PAGE_SIZE, ZD_PAGE_SIZE))
			return 0;
		if (errno == ENOSPC || errno == EDQUOT)
			return -ENOSPC;
	}
	return -EIO;
}

/*
 * What to do about a fault of a store at @addr; the page of the fault before is *@last.
 * 0: try again; -EIO, -ENOSPC, and *@bad.
 */
static int store_fault(struct zd_media *m, uintptr_t addr, uint64_t *last, uint64_t *bad)
{
	uint64_t page = (addr - (uintptr_t)m->base) / ZD_PAGE_SIZE;
	int rc;

	/* a second fault at one page: what was done about the first one didn't help */
	rc = page == *last ? -EIO : write_fault(m, page);
	*last = page;
	if (rc == -EIO)
		zd_media_mark_bad_page(m, page);
	if (rc)
		*bad = (addr - (uintptr_t)m->base) & ~(ZD_SECTOR_SIZE - 1);
	return rc;
}

/* A load at @off has failed for good: its page, or what lies beyond the end, is bad. */
static int fail_load(struct zd_media *m, uint64_t off, uint64_t *bad)
{
	uint64_t end;

	if (!zd_media_check_end(m, off & ZD_PAGE_MASK, ZD_PAGE_SIZE, &end))
		zd_media_mark_bad_page(m, off / ZD_PAGE_SIZE);
	*bad = off & ~(ZD_SECTOR_SIZE - 1);
	return -EIO;
}

static bool fs_is_full(const struct zd_media *m)
{
	struct statfs fs;

	return !fstatfs(m->fd, &fs) && !fs.f_bavail;
}

/*
 * A load at @off has failed: read on by a system call, up to @end or the end of the page.
 * How much was read; -EFAULT: the buffer; 0: nothing helps.  Only on a file system that is
 * full: in a file that was cut, and is long again by now, pread() would find zeros.
 */
static int64_t read_page(struct zd_media *m, uint64_t off, uint64_t end, struct zd_iter *to)
{
	uint64_t n = ZD_PAGE_SIZE - off % ZD_PAGE_SIZE;
	ssize_t got;
	void *buf;

	if (n > end - off)
		n = end - off;
	if (zd_media_is_poisoned(m, off / ZD_PAGE_SIZE) || !fs_is_full(m))
		return 0;
	buf = zd_iter_buf(to, &n);
	got = pread(m->fd, buf, n, off);
	if (got < 0)
		return errno == EFAULT ? -EFAULT : 0;
	zd_iter_advance(to, got);
	return got;
}

/* --- transfers --- */

/* How much of the range can be read before a bad block. */
static uint64_t good_len(struct zd_media *m, uint64_t off, uint64_t len)
{
	uint64_t first, sector = off >> ZD_SECTOR_SHIFT;
	uint64_t end = (off + len + ZD_SECTOR_SIZE - 1) >> ZD_SECTOR_SHIFT;

	if (!zd_badblocks_check(&m->bad, sector, end - sector, &first, NULL))
		return len;
	first <<= ZD_SECTOR_SHIFT;
	return first > off ? first - off : 0;
}

/* Any thread; may block on page faults, and on the file system. */
int zd_media_read(struct zd_media *m, uint64_t off, struct zd_iter *to, uint64_t len, uint64_t *bad)
{
	uint64_t end = off + len, good = off + good_len(m, off, len);

	while (off < good) {
		uint64_t n = good - off;
		void *buf = zd_iter_buf(to, &n);
		struct zd_fault_result r = zd_fault_copy(buf, m->base + off, n);
		int64_t more;

		n -= r.left;
		zd_iter_advance(to, n);
		off += n;
		if (!r.left)
			continue;
		if (!is_at(m, r.addr, off, r.left))
			return -EFAULT;
		more = read_page(m, off, good, to);
		if (more < 0)
			return more;
		if (!more)
			return fail_load(m, off, bad);
		off += more;
	}
	*bad = good;
	return good < end ? -EIO : 0;
}

/* Store the next *@n bytes, or fewer: then *@n is how many were tried. */
static struct zd_fault_result store(struct zd_media *m, uint64_t off, const struct zd_iter *from,
				    uint64_t *n)
{
	const void *buf;

	if (!from->iov)
		return zd_fault_zero(m->base + off, *n);
	buf = zd_iter_buf(from, n);
	return zd_fault_copy(m->base + off, buf, *n);
}

/* Any thread; may block on page faults, and on the file system. */
int zd_media_write(struct zd_media *m, uint64_t off, struct zd_iter *from, uint64_t len,
		   uint64_t *bad)
{
	uint64_t start = off, end = off + len, last = NO_PAGE;

	/* In the page that a truncation has cut a store succeeds, but is lost when the file
	 * grows: so bad sectors heal only in a file that has its length. */
	if (good_len(m, off, len) < len && zd_media_check_end(m, off, len, bad))
		return -EIO;
	while (off < end) {
		uint64_t n = end - off;
		struct zd_fault_result r = store(m, off, from, &n);

		n -= r.left;
		off += n;
		if (from->iov)
			zd_iter_advance(from, n);
		if (r.left && !is_at(m, r.addr, off, r.left))
			return -EFAULT;
		if (r.left) {
			int rc = store_fault(m, r.addr, &last, bad);

			if (rc)
				return rc;
		}
	}
	zd_media_tell(m, ZD_MEDIA_STORE, start, len);
	return zd_media_flush(m, start, len);
}

/* Enter the bad sectors of [first, end) in the list of what is mended once the next sync is
 * done.  0 or -ENOMEM. */
static int list_mended(struct zd_media *m, uint64_t first, uint64_t end)
{
	uint64_t bad, nr;
	int rc = 0;

	for (; !rc && zd_badblocks_check(&m->bad, first, end - first, &bad, &nr) == 1;
	     first = bad + nr)
		rc = zd_badblocks_set(&m->mended, bad, nr);
	return rc;
}

/* Any thread, after zd_media_check_end(); blocks if a sync or a record is due. */
int zd_media_heal(struct zd_media *m, uint64_t off, uint64_t len, uint64_t marks)
{
	uint64_t first = (off + ZD_SECTOR_SIZE - 1) >> ZD_SECTOR_SHIFT;
	uint64_t end = (off + len) >> ZD_SECTOR_SHIFT;
	int rc;

	if (first >= end || !zd_badblocks_check(&m->bad, first, end - first, NULL, NULL))
		return 0;
	rc = m->drain_fn ? zd_media_order(m) : 0;
	/* on this list before they leave the other: see copy_lists() in record.c */
	if (!rc && !zd_media_drain_suffices(m))
		rc = list_mended(m, first, end);
	if (rc)
		return -EIO;
	zd_badblocks_clear(&m->bad, first, end - first, marks);
	/* a sync empties that list, before the record becomes long */
	if (__atomic_load_n(&m->mended.nr, __ATOMIC_RELAXED) > MAX_MENDED)
		zd_media_sync(m);
	zd_media_record(m, ZD_RECORD_MENDED);
	return 0;
}

/* As zd_media_read(). */
int zd_media_get(struct zd_media *m, uint64_t off, void *buf, uint64_t len)
{
	struct iovec iov = { buf, len };
	struct zd_iter it = { .iov = &iov, .nr = 1 };
	uint64_t bad;
	int rc = zd_media_read(m, off, &it, len, &bad);

	return rc ? rc : zd_media_check_end(m, off, len, &bad);
}

/* As zd_media_write(), and zd_media_heal(). */
int zd_media_put(struct zd_media *m, uint64_t off, const void *buf, uint64_t len)
{
	struct iovec iov = { (void *)buf, len };
	uint64_t marks, bad;
	int tries = 2, rc;

	/* once more, if a sector was marked bad while this healed it */
	do {
		struct zd_iter it = { .iov = &iov, .nr = 1 };

		marks = zd_badblocks_marks(&m->bad);
		rc = zd_media_write(m, off, &it, len, &bad);
		if (!rc)
			rc = zd_media_check_end(m, off, len, &bad);
		if (!rc)
			rc = zd_media_heal(m, off, len, marks);
	} while (!rc && --tries && zd_badblocks_marks(&m->bad) != marks);
	return rc;
}

/* As zd_media_write(). */
int zd_media_put64(struct zd_media *m, uint64_t off, uint64_t value)
{
	uint64_t *at = (uint64_t *)(m->base + off);
	uint64_t last = NO_PAGE, bad;

	while (!zd_fault_store64(at, value)) {
		int rc = store_fault(m, (uintptr_t)at, &last, &bad);

		if (rc)
			return rc;
	}
	zd_media_tell(m, ZD_MEDIA_STORE, off, sizeof(value));
	return zd_media_flush(m, off, sizeof(value));
}

/* As zd_media_read(). */
int zd_media_get64(struct zd_media *m, uint64_t off, uint64_t *value)
{
	uint64_t bad;

	if (good_len(m, off, sizeof(*value)) < sizeof(*value))
		return -EIO;
	if (zd_fault_load64((const uint64_t *)(m->base + off), value))
		return 0;
	return fail_load(m, off, &bad);
}
