/* SPDX-License-Identifier: MIT */
/*
 * The record of a region: what is known to be lost stays known.
 *
 * The record has the list of bad blocks, and how long the region is.  It outlives the process,
 * and the power.  Invariants:
 *
 *  - A sector is in the record before any caller is told -EIO because of the sector: a request
 *    that fails, or a hold of a page, calls zd_media_record() before it returns.  (The sector
 *    is on the list in memory even before that, so that no other thread reads zeros there.)
 *  - A sector leaves the record only after the write that mends it is durable.  A write that
 *    has just been done is not (that would be an msync each); so until the next sync of the
 *    whole region the sector is recorded as mended in this boot of the system.  If the process
 *    is killed the sector is good, as after any write; if the power goes it is bad, and
 *    doesn't read as the zeros that were there.
 *  - That the record can't be stored is told in the log, in one line.  A record that can't be
 *    read isn't taken for an empty one: the region can't be opened.
 *
 * A file that is shorter than the record says has lost its end.  Opening refuses the file, and
 * enters that end in the record: if the file is made long again its end doesn't read as zeros.
 *
 * Block devices and device-dax have no record.  They can't be truncated, and a sector that
 * their medium can't read today it can't read tomorrow.
 *
 * Processes that share a region read-only add to one record.  They take turns by a lock on a
 * byte far behind the file's end, and merge what the others have stored before they store.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "drivers/explain.h"
#include "drivers/file_lock.h"
#include "drivers/media/record.h"
#include "drivers/media/record_store.h"
#include "zonedev/log.h"

#define LOCK_BYTE	ZD_LOCK_BYTES
#define LOCK_TRIES	200		/* of 10 ms: the holder stores a few KiB */

/* --- open --- */

static void open_record_fd(struct zd_media *m)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
	/* for writing, even if the region is read-only: its content isn't written */
	m->record.fd = open(path, O_RDWR | O_CLOEXEC);
}

/* May the media have a record? */
static bool is_file(const struct zd_media *m)
{
	struct stat st;

	return !m->sealed && !fstat(m->fd, &st) && S_ISREG(st.st_mode);
}

void zd_media_record_close(struct zd_media *m)
{
	if (m->record.fd >= 0)
		close(m->record.fd);
	m->record.fd = -1;
}

static int explain_load(struct zd_media *m, const char *path, int rc, char *err, size_t errlen)
{
	char file[PATH_MAX] = "";

	zd_record_path(m, ZD_RECORD_FILE, file, sizeof(file));
	switch (rc) {
	case -EUCLEAN:
		return zd_explain(
			err, errlen, rc,
			"%s: the record of what it has lost is damaged: compare it with a copy, then start without: %s%s",
			path, m->record.in_file ? "rm " : "setfattr -x " ZD_RECORD_NAME " ",
			m->record.in_file ? file : path);
	case -ENOENT:
		return zd_explain(
			err, errlen, -EUCLEAN,
			"%s: what it has lost is listed in %s, which is gone: put it back", path,
			file);
	case -ESTALE:
		return zd_explain(
			err, errlen, -EUCLEAN,
			"%s lists what another file has lost that was %s: put that back, or remove the list",
			file, path);
	default:
		return zd_explain(err, errlen, rc,
				  "%s: the record of what it has lost can't be read: %s", path,
				  strerrordesc_np(-rc));
	}
}

/* What was cut off is lost, and recorded as lost for when the file is long again. */
static int refuse_cut(struct zd_media *m, const char *path, uint64_t bytes, struct zd_record *r,
		      char *err, size_t errlen)
{
	uint64_t first = bytes >> ZD_SECTOR_SHIFT, end = r->bytes >> ZD_SECTOR_SHIFT;
	int rc = zd_badblocks_set(&r->bad, first, end - first);

	if (!rc)
		rc = m->record.fd < 0 ? -EACCES : zd_record_store(m, r);
	if (!rc)
		rc = zd_record_sync(m);
	if (rc)
		zd_log(ZD_LOG_ERR,
		       "pmem: %s was cut, and that can't be recorded (%s): don't make it longer",
		       path, strerrordesc_np(-rc));
	return zd_explain(
		err, errlen, -EUCLEAN,
		bytes ? "%s has %llu bytes and had %llu: what was cut off is lost. truncate -s %llu gives the rest, with errors there; size=%llu a smaller region" :
			"%s has %llu bytes and had %llu: all is lost. truncate -s %llu gives a region of errors, to be written; or remove the file to start anew",
		path, (unsigned long long)bytes, (unsigned long long)r->bytes,
		(unsigned long long)r->bytes, (unsigned long long)bytes);
}

static void tell_lost(struct zd_media *m, const char *path, const struct zd_badblocks *bad)
{
	uint64_t sectors = 0;

	for (uint32_t i = 0; i < bad->nr; i++)
		sectors += bad->ranges[i].end - bad->ranges[i].first;
	if (!sectors)
		return;
	zd_log(ZD_LOG_WARN,
	       "pmem: %s: %llu bytes of it were lost before, the first at %#llx: they read as errors until they are written (mended by other means? %s%s%s)",
	       path, (unsigned long long)sectors << ZD_SECTOR_SHIFT,
	       (unsigned long long)bad->ranges[0].first << ZD_SECTOR_SHIFT,
	       m->record.in_file ? "rm " : "setfattr -x " ZD_RECORD_NAME " ", path,
	       m->record.in_file ? ZD_RECORD_FILE : "");
}

static int add_list(struct zd_badblocks *to, const struct zd_badblocks *from, uint64_t sectors)
{
	int rc = 0;

	for (uint32_t i = 0; i < from->nr && !rc; i++) {
		uint64_t first = from->ranges[i].first, end = from->ranges[i].end;

		/* sectors beyond: the file's owner has made it smaller, and asked for that size */
		if (end > sectors)
			end = sectors;
		if (first < end)
			rc = zd_badblocks_set(to, first, end - first);
	}
	return rc;
}

static int take_lists(struct zd_media *m, const struct zd_record *r, uint64_t bytes)
{
	int rc = add_list(&m->bad, &r->bad, bytes >> ZD_SECTOR_SHIFT);

	return rc ? rc : add_list(&m->mended, &r->mended, bytes >> ZD_SECTOR_SHIFT);
}

/* The lists are what is stored. */
static void mark_all_stored(struct zd_media *m)
{
	m->record.stored = m->record.synced = zd_media_record_now(m);
	m->record.synced_sets = m->bad.sets;
}

/* The thread that opens the region; blocks. */
int zd_media_record_open(struct zd_media *m, const char *path, uint64_t bytes, uint64_t want,
			 char *err, size_t errlen)
{
	struct zd_record r;
	int rc;

	if (!is_file(m))
		return 0;
	open_record_fd(m);
	rc = zd_record_load(m, &r);
	if (rc == -ENODATA)
		return 0;
	if (rc)
		return explain_load(m, path, rc, err, errlen);
	m->record.bytes = r.bytes;
	if (bytes < r.bytes && (!bytes || want != bytes)) {
		rc = refuse_cut(m, path, bytes, &r, err, errlen);
	} else {
		tell_lost(m, path, &r.bad);
		rc = take_lists(m, &r, bytes);
		mark_all_stored(m);
	}
	zd_record_exit(&r);
	return rc == -ENOMEM ? zd_explain(err, errlen, rc, "no memory") : rc;
}

void zd_media_record_size(struct zd_media *m)
{
	struct zd_record r = { m->bytes, m->bad, m->mended };

	/* An error is ignored: without a record nothing is lost but the knowledge of the size. */
	if (m->record.fd >= 0 && !m->readonly && m->record.bytes != m->bytes)
		zd_record_store(m, &r);
}

/* --- store --- */

static int lock_record(const struct zd_media *m, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = LOCK_BYTE, .l_len = 1 };
	const struct timespec pause = { .tv_nsec = 10000000 };

	/* a region that can be written has one opener: the lock of its file */
	if (!m->readonly)
		return 0;
	for (int i = 0; fcntl(m->record.fd, F_OFD_SETLK, &l); i++) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return 0;	/* a file system without locks */
		if (i == LOCK_TRIES)
			return -EBUSY;
		nanosleep(&pause, NULL);
	}
	return 0;
}

/* Take what other readers of the region have stored since. */
static int merge(struct zd_media *m)
{
	struct zd_record r;
	int rc;

	if (!m->readonly)
		return 0;
	rc = zd_record_load(m, &r);
	if (rc)
		return rc == -ENODATA ? 0 : rc;
	rc = take_lists(m, &r, m->bytes);
	zd_record_exit(&r);
	return rc;
}

/* In this order: zd_media_heal() puts a range on the list of mended before it takes it off the
 * list of bad ones, so that it is in one copy at least. */
static int copy_lists(struct zd_media *m, struct zd_record *r)
{
	int rc = zd_badblocks_copy(&r->bad, &m->bad);

	return rc ? rc : zd_badblocks_copy(&r->mended, &m->mended);
}

/* record.lock is held. */
static int store(struct zd_media *m)
{
	struct zd_record r = { .bytes = m->bytes };
	int rc;

	rc = lock_record(m, F_WRLCK);
	if (rc)
		return rc;
	rc = merge(m);
	if (!rc)
		rc = copy_lists(m, &r);
	if (!rc)
		rc = zd_record_store(m, &r);
	lock_record(m, F_UNLCK);
	if (!rc) {
		m->record.stored_sets = r.bad.sets;
		/* release: pairs with the acquire in zd_media_record_due() */
		__atomic_store_n(&m->record.stored, r.bad.changes + r.mended.changes,
				 __ATOMIC_RELEASE);
	}
	zd_record_exit(&r);
	return rc;
}

/* Make durable what is stored.  record.lock is held. */
static int sync_stored(struct zd_media *m)
{
	int rc = zd_record_sync(m);

	if (rc)
		return rc;
	__atomic_store_n(&m->record.synced_sets, m->record.stored_sets, __ATOMIC_RELEASE);
	__atomic_store_n(&m->record.synced, m->record.stored, __ATOMIC_RELEASE);
	return 0;
}

/* There is no place for a record, and will be none.  record.lock is held. */
static void give_up_record(struct zd_media *m)
{
	if (!m->sealed && !m->record.told)
		zd_log(ZD_LOG_WARN,
		       m->can_shrink ?
			       "pmem: sectors were lost, and this region's file can't be written to say so: whoever opens it next isn't told" :
			       "pmem: a device keeps no list of sectors that were lost: the next to open it is told by the device alone");
	m->record.told = true;
	__atomic_store_n(&m->record.synced_sets, zd_badblocks_sets(&m->bad), __ATOMIC_RELEASE);
	__atomic_store_n(&m->record.stored, zd_media_record_now(m), __ATOMIC_RELEASE);
	__atomic_store_n(&m->record.synced, m->record.stored, __ATOMIC_RELEASE);
}

static void tell_failure(struct zd_media *m, int rc)
{
	char path[PATH_MAX] = "";

	/* once, until it works again */
	if (m->record.told)
		return;
	m->record.told = true;
	zd_record_path(m, "", path, sizeof(path));
	zd_log(ZD_LOG_ERR,
	       "pmem: %s: sectors were lost, and that can't be recorded (%s): mend that before the region is opened anew, or they read as zeros then",
	       path, strerrordesc_np(-rc));
}

/* Any thread; blocks on record.lock, and on the file. */
void __zd_media_record(struct zd_media *m, enum zd_record_what what)
{
	int rc = 0;

	zd_mutex_lock(&m->record.lock);
	if (m->record.fd < 0) {
		give_up_record(m);
	} else if (zd_media_record_due(m, what)) {
		if (m->record.stored != zd_media_record_now(m))
			rc = store(m);
		if (!rc && what != ZD_RECORD_MENDED)
			rc = sync_stored(m);
		if (rc)
			tell_failure(m, rc);
		else
			m->record.told = false;
	}
	zd_mutex_unlock(&m->record.lock);
}
