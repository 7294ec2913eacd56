/* SPDX-License-Identifier: MIT */
/*
 * Where the record of a region is stored: in an attribute of the file, or in PATH.zonedev.
 * record_form.h tells when it is which, and how the record looks.
 *
 * The file system replaces an attribute as a whole.  PATH.zonedev is replaced as a whole, too,
 * by a new file that is durable before it takes that name.  When the list moves from one place
 * to the other, the new place is durable before the old one points there, or is removed.
 *
 * All of it: record.lock is held, or the region is being opened; blocks on the file system.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/alloc.h"
#include "drivers/media/record_store.h"
#include "drivers/sync_dir.h"
#include "zonedev/log.h"

#define MAX_ATTRIBUTE	65536u		/* the kernel's limit; file systems have lower ones */
#define MAX_FILE	(64u << 20)
#define SYNC_TRIES	3

/* --- PATH.zonedev --- */

int zd_record_path(const struct zd_media *m, const char *suffix, char *path, size_t len)
{
	char link[32];
	struct stat st;
	ssize_t n;

	if (fstat(m->fd, &st))
		return -errno;
	if (!st.st_nlink)
		return -ENOENT;		/* the file has no name any more */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", m->fd);
	n = readlink(link, path, len);
	if (n < 0)
		return -errno;
	if ((size_t)n + strlen(suffix) >= len || *path != '/')
		return -ENAMETOOLONG;
	strcpy(path + n, suffix);
	return 0;
}

/* A descriptor.  -ENODATA: there is no such file, or none to be trusted, as every user may make
 * files in /tmp. */
static int open_file(const struct zd_media *m, const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st, region;
	int rc = -ENODATA;

	if (fd < 0)
		return errno == ENOENT ? -ENODATA : -errno;
	if (fstat(fd, &st) || fstat(m->fd, &region)) {
		rc = -errno;
	} else if (!S_ISREG(st.st_mode) ||
		   (st.st_uid != region.st_uid && st.st_uid != geteuid() && st.st_uid)) {
		zd_log(ZD_LOG_WARN, "pmem: %s is another user's, and not looked at", path);
	} else if (st.st_size > MAX_FILE) {
		rc = -EUCLEAN;
	} else {
		*len = st.st_size;
		return fd;
	}
	close(fd);
	return rc;
}

static int load_file(struct zd_media *m, struct zd_record *r)
{
	char path[PATH_MAX], *buf;
	struct zd_record_head head;
	size_t len = 0;
	ssize_t n;
	int fd, rc = zd_record_path(m, ZD_RECORD_FILE, path, sizeof(path));

	if (rc)
		return rc == -ENOENT ? -ENODATA : rc;
	fd = open_file(m, path, &len);
	if (fd < 0)
		return fd;
	buf = zd_alloc(len);
	n = buf ? read(fd, buf, len) : 0;
	rc = !buf ? -ENOMEM : n < 0 ? -errno : zd_record_decode(buf, n, r, &head);
	close(fd);
	zd_free(buf);
	if (rc)
		return rc > 0 ? -EUCLEAN : rc;
	m->record.in_file = true;
	/* not by the device, whose number may be another after the next mount */
	if (le64toh(head.ino) == m->identity.ino && le64toh(head.born_ns) == m->identity.born_ns)
		return 0;
	zd_record_exit(r);
	return -ESTALE;
}

static int write_file(const char *path, const char *buf, size_t len)
{
	int fd, rc = 0;

	unlink(path);		/* left by a process that was killed */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < len && !rc;) {
		ssize_t n = write(fd, buf + done, len - done);

		if (n > 0)
			done += n;
		else if (errno != EINTR)
			rc = n ? -errno : -EIO;
	}
	if (!rc && fsync(fd))
		rc = -errno;
	close(fd);
	return rc;
}

static int store_file(struct zd_media *m, const char *buf, size_t len)
{
	char path[PATH_MAX], made[PATH_MAX];
	int rc = zd_record_path(m, ZD_RECORD_FILE, path, sizeof(path));

	if (!rc)
		rc = zd_record_path(m, ZD_RECORD_FILE ".new", made, sizeof(made));
	if (!rc)
		rc = write_file(made, buf, len);
	if (!rc && rename(made, path))
		rc = -errno;
	if (!rc)
		rc = zd_sync_dir(path);
	if (!rc)
		m->record.in_file = true;
	else
		unlink(made);
	return rc;
}

static void remove_file(struct zd_media *m)
{
	char path[PATH_MAX];

	if (m->record.in_file && !zd_record_path(m, ZD_RECORD_FILE, path, sizeof(path)))
		unlink(path);
	m->record.in_file = false;
}

/* --- the attribute --- */

static int load_attribute(struct zd_media *m, struct zd_record *r)
{
	char *buf = zd_alloc(MAX_ATTRIBUTE);
	struct zd_record_head head;
	ssize_t n;
	int rc;

	if (!buf)
		return -ENOMEM;
	n = fgetxattr(m->fd, ZD_RECORD_NAME, buf, MAX_ATTRIBUTE);
	rc = n >= 0				    ? zd_record_decode(buf, n, r, &head) :
	     errno == EOPNOTSUPP || errno == ENOSYS ? -ENODATA :
						      -errno;
	zd_free(buf);
	return rc;
}

static int set_attribute(const struct zd_media *m, const char *buf, size_t len)
{
	if (len > MAX_ATTRIBUTE)
		return -E2BIG;
	return fsetxattr(m->record.fd, ZD_RECORD_NAME, buf, len, 0) ? -errno : 0;
}

/* Let the attribute say that the list is in PATH.zonedev.  If it can't, there must be none. */
static int point_to_file(const struct zd_media *m, const struct zd_record *r)
{
	size_t len;
	char *buf = zd_record_encode(&m->identity, r, true, &len);
	int rc = buf ? set_attribute(m, buf, len) : -ENOMEM;

	zd_free(buf);
	if (rc && fremovexattr(m->record.fd, ZD_RECORD_NAME) && errno != ENODATA)
		return rc;
	return 0;
}

/* --- both --- */

int zd_record_load(struct zd_media *m, struct zd_record *r)
{
	int rc, file;

	*r = (struct zd_record){ 0 };
	m->record.in_file = false;
	rc = load_attribute(m, r);
	if (rc <= 0 && rc != -ENODATA)
		return rc;
	file = load_file(m, r);
	return rc == 1 && file == -ENODATA ? -ENOENT : file;
}

/* Is @rc an error of the place, so that the other place may do? */
static bool no_room(int rc)
{
	return rc == -ENOSPC || rc == -E2BIG || rc == -ERANGE || rc == -EDQUOT ||
	       rc == -EOPNOTSUPP || rc == -ENOSYS;
}

int zd_record_store(struct zd_media *m, const struct zd_record *r)
{
	size_t len;
	char *buf = zd_record_encode(&m->identity, r, false, &len);
	int rc = buf ? set_attribute(m, buf, len) : -ENOMEM;

	if (!rc && m->record.in_file) {
		rc = zd_record_sync(m);
		if (!rc)
			remove_file(m);
	} else if (no_room(rc)) {
		bool none = rc == -EOPNOTSUPP || rc == -ENOSYS;

		/* no file only to say that nothing is lost */
		rc = r->bad.nr || r->mended.nr || m->record.in_file ? store_file(m, buf, len) : 0;
		if (!rc && !none && m->record.in_file)
			rc = point_to_file(m, r);
	}
	zd_free(buf);
	return rc;
}

int zd_record_sync(struct zd_media *m)
{
	int rc = 0;

	/* fsync() writes the data back as well.  That it can't is told to this open file once,
	 * before the attribute is written: hence another try. */
	for (int i = 0; i < SYNC_TRIES; i++) {
		rc = fsync(m->record.fd) ? -errno : 0;
		if (!rc)
			break;
	}
	return rc;
}
