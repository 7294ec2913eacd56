/* SPDX-License-Identifier: MIT */
/*
 * Making stores durable.
 *
 * On DAX the storing thread flushes its cache lines and drains them; nothing is shared, and
 * nothing can fail but that the page goes away under the flush (CLWB faults as a load does,
 * hence the guard).  Only a hole that was punched is for the file system to write down: until
 * that is done old content may come back after a power loss, and a sync asks for it.
 *
 * Elsewhere msync() makes stores durable: libpmem2's persist functions would call it, too, but
 * can't return an error.  A FLUSH syncs the whole mapping, FUA and persist their range
 * alone, so that they needn't pay for what other threads have stored elsewhere.
 *
 * The kernel tells of a failed write-back once for each open file, and forgets.  So:
 *
 *  - An error stays, for the region: no sync succeeds after it any more.  (The kernel has
 *    marked the pages clean that it couldn't write: a later msync() would succeed without
 *    writing them, and once they are evicted the old content is back.)
 *  - Only one thread at a time syncs through one open file.  Otherwise one thread's call
 *    could be told of the failure of the other thread's page, and the other one of success.
 *  - Threads that want the whole mapping share one msync, which does the work of all that
 *    wait for it.  A range is synced through one of a few more open files, so ranges wait
 *    neither for the shared msync nor, mostly, for each other.  The range is mapped for
 *    the moment of the msync: that call takes a mapping, but finds what to write by the
 *    file's pages, whatever mapping they were stored through.
 *
 * msync() of a range is enough for what was stored there: it is what fdatasync() is for the
 * range, so the file system writes down where the storage is that a first store took, and
 * that holes were punched.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fault_guard.h"
#include "drivers/media/media.h"
#include "zonedev/log.h"

void (*zd_media_hook)(struct zd_media *m, enum zd_media_event event, uint64_t off, uint64_t len);

struct flush_call {
	struct zd_media *m;
	const char *addr;
	uint64_t len;
};

static void call_flush(void *arg)
{
	struct flush_call *c = arg;

	c->m->flush_fn(c->addr, c->len);
}

/* The thread that has stored; doesn't block. */
int zd_media_flush(struct zd_media *m, uint64_t off, uint64_t len)
{
	struct flush_call c = { m, m->base + off, len };

	if (!m->flush_fn)
		return 0;
	if (zd_fault_guard_call(call_flush, &c, m->base, m->bytes, NULL))
		return -EIO;
	zd_media_tell(m, ZD_MEDIA_FLUSH, off, len);
	return 0;
}

int zd_media_sync_error(struct zd_media *m)
{
	return __atomic_load_n(&m->sync.error, __ATOMIC_RELAXED);
}

/* Log the error, and let no sync succeed from now on.  Any thread. */
static int fail_sync(struct zd_media *m, int rc)
{
	zd_log(ZD_LOG_ERR,
	       "pmem: what was written can't be made durable (%s): flushes fail until the region is opened anew",
	       strerrordesc_np(-rc));
	__atomic_store_n(&m->sync.error, -EIO, __ATOMIC_RELAXED);
	return -EIO;
}

/* One msync of the whole mapping.  Called and returns with sync.lock held, drops it meanwhile;
 * no other thread is in here (@busy).  Blocks. */
static void sync_once(struct zd_media *m)
{
	struct zd_media_sync *s = &m->sync;
	uint64_t nr = ++s->started, mended = zd_badblocks_marks(&m->mended);
	int rc;

	s->busy = true;
	zd_mutex_unlock(&s->lock);
	zd_media_tell(m, ZD_MEDIA_SYNC_BEGIN, 0, m->bytes);
	rc = msync(m->base, m->bytes, MS_SYNC) ? -errno : 0;
	zd_media_tell(m, ZD_MEDIA_SYNC, 0, m->bytes);
	/* what was mended before the sync is durable; if more was mended meanwhile, next time */
	if (!rc)
		zd_badblocks_clear(&m->mended, 0, m->bytes >> ZD_SECTOR_SHIFT, mended);
	zd_mutex_lock(&s->lock);
	s->busy = false;
	if (rc) {
		fail_sync(m, rc);
	} else {
		/* release: pairs with holes_are_durable() */
		__atomic_store_n(&s->completed, nr, __ATOMIC_RELEASE);
	}
	__atomic_add_fetch(&s->turn, 1, __ATOMIC_RELEASE);
	zd_futex_wake(&s->turn, INT_MAX);
}

/* Until the sync that runs has ended.  sync.lock is held, dropped meanwhile. */
static void wait_turn(struct zd_media_sync *s)
{
	uint32_t turn = __atomic_load_n(&s->turn, __ATOMIC_RELAXED);

	zd_mutex_unlock(&s->lock);
	zd_futex_wait(&s->turn, turn, -1);
	zd_mutex_lock(&s->lock);
}

/* A sync that begins after this call: run, or waited for.  Blocks. */
static int sync_shared(struct zd_media *m)
{
	struct zd_media_sync *s = &m->sync;
	uint64_t ticket;
	int rc;

	zd_mutex_lock(&s->lock);
	/* the sync that runs now may have missed this thread's stores */
	ticket = s->started + 1;
	while (!s->error && s->completed < ticket) {
		if (s->busy)
			wait_turn(s);
		else
			sync_once(m);
	}
	rc = s->error;
	zd_mutex_unlock(&s->lock);
	return rc;
}

/* After the hole was punched: the sync with this number, or a later one, makes it durable. */
void zd_media_note_hole(struct zd_media *m)
{
	zd_mutex_lock(&m->sync.lock);
	/* the sync that runs now may have missed the hole */
	__atomic_store_n(&m->hole_ticket, m->sync.started + 1, __ATOMIC_RELEASE);
	zd_mutex_unlock(&m->sync.lock);
}

static bool holes_are_durable(struct zd_media *m)
{
	/* acquire: pairs with the release in sync_once() */
	return __atomic_load_n(&m->sync.completed, __ATOMIC_ACQUIRE) >=
	       __atomic_load_n(&m->hole_ticket, __ATOMIC_ACQUIRE);
}

/* Any thread; blocks where msync() does it. */
int zd_media_order(struct zd_media *m)
{
	if (m->readonly || m->persist == ZD_PMEM_PERSIST_NONE)
		return 0;
	if (!m->drain_fn)
		return sync_shared(m);
	m->drain_fn();
	zd_media_tell(m, ZD_MEDIA_DRAIN, 0, 0);
	return 0;
}

bool zd_media_drain_suffices(struct zd_media *m)
{
	return m->persist == ZD_PMEM_PERSIST_NONE || (m->drain_fn && holes_are_durable(m));
}

/* Any thread; blocks. */
int zd_media_sync(struct zd_media *m)
{
	int rc = zd_media_order(m);

	return rc || !m->drain_fn || holes_are_durable(m) ? rc : sync_shared(m);
}

/* --- a range --- */

/* The thread that opens the region. */
void zd_media_open_sync_files(struct zd_media *m)
{
	struct zd_sync_files *f = &m->sync_files;
	char path[32];
	int fd;

	if (m->readonly || m->flush_fn || m->persist == ZD_PMEM_PERSIST_NONE)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
	/* Now, not when one is needed: an open file isn't told of an error that another open
	 * file was told of before this one was opened. */
	while (f->nr < ZD_SYNC_FILES) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return;		/* with none at all each sync is of the whole mapping */
		f->fd[f->nr++] = fd;
	}
}

void zd_media_close_sync_files(struct zd_media *m)
{
	while (m->sync_files.nr)
		close(m->sync_files.fd[--m->sync_files.nr]);
}

/* A file for this thread alone; waits until there is one. */
static uint32_t take_file(struct zd_sync_files *f)
{
	uint32_t i, turn;

	for (;;) {
		zd_mutex_lock(&f->lock);
		for (i = 0; i < f->nr && f->busy & 1u << i; i++)
			;
		if (i < f->nr)
			f->busy |= 1u << i;
		turn = f->turn;
		zd_mutex_unlock(&f->lock);
		if (i < f->nr)
			return i;
		zd_futex_wait(&f->turn, turn, -1);
	}
}

static void put_file(struct zd_sync_files *f, uint32_t i)
{
	zd_mutex_lock(&f->lock);
	f->busy &= ~(1u << i);
	__atomic_add_fetch(&f->turn, 1, __ATOMIC_RELAXED);
	zd_mutex_unlock(&f->lock);
	zd_futex_wake(&f->turn, 1);
}

/* The caller has the file.  0; -EIO; -ENOMEM: it can't be mapped, and nothing was tried. */
static int sync_through(struct zd_media *m, int fd, uint64_t off, uint64_t len)
{
	void *p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, off);
	int rc;

	if (p == MAP_FAILED)
		return -ENOMEM;
	zd_media_tell(m, ZD_MEDIA_SYNC_BEGIN, off, len);
	rc = msync(p, len, MS_SYNC) ? -errno : 0;
	munmap(p, len);
	if (rc)
		return fail_sync(m, rc == -ENOMEM ? -EIO : rc);
	zd_media_tell(m, ZD_MEDIA_SYNC, off, len);
	return 0;
}

/* Any thread; blocks. */
int zd_media_sync_range(struct zd_media *m, uint64_t off, uint64_t len)
{
	uint64_t first = off & ZD_PAGE_MASK, end = (off + len + ZD_PAGE_SIZE - 1) & ZD_PAGE_MASK;
	uint32_t i;
	int rc;

	if (!m->sync_files.nr || first == end)
		return zd_media_sync(m);
	i = take_file(&m->sync_files);
	/* an error that this open file was told of was entered before the file was put back */
	rc = zd_media_sync_error(m);
	if (!rc)
		rc = sync_through(m, m->sync_files.fd[i], first, end - first);
	put_file(&m->sync_files, i);
	return rc == -ENOMEM ? zd_media_sync(m) : rc;
}
