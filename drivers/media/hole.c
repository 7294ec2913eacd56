/* SPDX-License-Identifier: MIT */
/*
 * Storage given back, and where there is none.
 *
 * A page that is held (live) must not be punched out: the holder's page would not be the
 * file's any more, and what the holder stores there would be lost.  So a range is announced
 * first: it is entered in a list, under the lock under which pages become live; from then on
 * no page of the range becomes live until the range leaves the list.  The pages that are live
 * already are zeroed by stores, the others punched.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "drivers/media/media.h"

#define STEP	(UINT64_C(2) << 20)	/* at a time: a thread that wants a page waits that long */

/* pages.lock is held. */
bool zd_media_may_hold(const struct zd_media *m, uint64_t page)
{
	for (struct zd_media_hole *h = m->holes; h; h = h->next)
		if (page >= h->first && page < h->end)
			return false;
	return true;
}

/* From now on no page of the range becomes live. */
static void announce(struct zd_media *m, struct zd_media_hole *hole)
{
	zd_mutex_lock(m->pages.lock);
	hole->next = m->holes;
	m->holes = hole;
	zd_mutex_unlock(m->pages.lock);
}

static void withdraw(struct zd_media *m, struct zd_media_hole *hole)
{
	struct zd_media_hole **link;

	zd_mutex_lock(m->pages.lock);
	for (link = &m->holes; *link != hole; link = &(*link)->next)
		;
	*link = hole->next;
	zd_mutex_unlock(m->pages.lock);
}

static bool is_live(struct zd_media *m, uint64_t page)
{
	bool live;

	zd_mutex_lock(m->pages.lock);
	live = m->pages.is_live(m->pages.owner, page);
	zd_mutex_unlock(m->pages.lock);
	return live;
}

static int store_zeros(struct zd_media *m, uint64_t off, uint64_t len, uint64_t *bad)
{
	struct zd_iter zeros = { .iov = NULL };

	return len ? zd_media_write(m, off, &zeros, len, bad) : 0;
}

/* Whole pages, none of them live.  False: the file system can't punch. */
static bool punch(struct zd_media *m, uint64_t first, uint64_t end)
{
	if (first == end)
		return true;
	if (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first * ZD_PAGE_SIZE,
		      (end - first) * ZD_PAGE_SIZE))
		return false;
	zd_media_note_hole(m);
	zd_media_tell(m, ZD_MEDIA_STORE, first * ZD_PAGE_SIZE, (end - first) * ZD_PAGE_SIZE);
	return true;
}

void zd_media_punch(struct zd_media *m, uint64_t off, uint64_t len)
{
	punch(m, off / ZD_PAGE_SIZE, (off + len) / ZD_PAGE_SIZE);
}

/* The page is held; or poisoned, which heals by stores alone, as the mapping there isn't the
 * file's. */
static bool must_stay(struct zd_media *m, uint64_t page, bool poison)
{
	return is_live(m, page) || (poison && zd_media_is_poisoned(m, page));
}

/* Punch the runs of pages that needn't stay, zero the others.  The range is announced. */
static int punch_free(struct zd_media *m, uint64_t first, uint64_t end, uint64_t *bad)
{
	bool poison = zd_media_has_poison(m);
	uint64_t run;
	int rc = 0;

	for (uint64_t page = first; page < end && !rc; page = run) {
		bool stays = must_stay(m, page, poison);

		for (run = page + 1; run < end && must_stay(m, run, poison) == stays; run++)
			;
		if (stays || !punch(m, page, run))
			rc = store_zeros(m, page * ZD_PAGE_SIZE, (run - page) * ZD_PAGE_SIZE, bad);
	}
	return rc;
}

static int punch_pages(struct zd_media *m, uint64_t first, uint64_t end, uint64_t *bad)
{
	struct zd_media_hole hole = { .first = first, .end = end };
	int rc;

	announce(m, &hole);
	rc = punch_free(m, first, end, bad);
	withdraw(m, &hole);
	return rc;
}

/* Any thread; takes pages.lock, and blocks. */
int zd_media_zero(struct zd_media *m, uint64_t off, uint64_t len, bool punch, uint64_t *bad)
{
	uint64_t end = off + len, first_page = (off + ZD_PAGE_SIZE - 1) & ZD_PAGE_MASK;
	uint64_t last_page = end & ZD_PAGE_MASK;
	int rc;

	if (!punch || !m->has_holes || first_page >= last_page)
		return store_zeros(m, off, len, bad);
	/* A hole heals what is bad, as stores do: the storage that failed is given back.  As for
	 * stores the file must have its length. */
	if (zd_badblocks_any(&m->bad) && zd_media_check_end(m, off, len, bad))
		return -EIO;
	rc = store_zeros(m, off, first_page - off, bad);
	for (off = first_page; off < last_page && !rc; off += STEP - off % STEP) {
		uint64_t step = off + (STEP - off % STEP);

		rc = punch_pages(m, off / ZD_PAGE_SIZE,
				 (step < last_page ? step : last_page) / ZD_PAGE_SIZE, bad);
	}
	return rc ? rc : store_zeros(m, last_page, end - last_page, bad);
}

int64_t zd_media_extent(struct zd_media *m, uint64_t off, uint64_t len, bool *hole)
{
	off_t data, next;

	*hole = false;
	if (!m->has_holes)
		return len;
	/* not by m->fd, whose position must stay 0: see file_size() in length.c */
	data = lseek(m->program_fd, off, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		return len;		/* the file system can't tell */
	*hole = data < 0 || (uint64_t)data > off;
	next = *hole ? data : lseek(m->program_fd, off, SEEK_HOLE);
	/* no more data; or no more file, which is no extent's end */
	if (next < 0 || (uint64_t)next <= off || (uint64_t)next > off + len)
		return len;
	return next - off;
}
