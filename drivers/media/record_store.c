/* SPDX-License-Identifier: MIT */
/*
 * The record of a region, on the media: media/record.h has where, and how it looks.
 *
 * An attribute is replaced as a whole, by the file system.  So is PATH.zonedev: by
 * another that is durable before it takes the name.  When the list moves from one to the
 * other the new place is durable before the old one says so, or goes.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/alloc.h"
#include "drivers/media/crc32c.h"
#include "drivers/media/record.h"
#include "drivers/sync_dir.h"
#include "zonedev/log.h"

#define MAGIC		"ZDREGION"
#define ELSEWHERE	UINT32_MAX
#define MAX_ATTRIBUTE	65536u		/* the kernel's limit; file systems have lower ones */
#define MAX_FILE	(64u << 20)
#define MAX_NUMBER	10u		/* bytes of a u64, 7 bits a byte */
#define SYNC_TRIES	3

struct head {
	char magic[8];
	uint64_t bytes;
	uint32_t nr_bad, nr_mended;
	uint64_t boot, ino, born_ns, checksum;
};

void zd_record_exit(struct zd_record *r)
{
	zd_badblocks_exit(&r->bad);
	zd_badblocks_exit(&r->mended);
}

/* Of this system since its start.  0: not to be found out, and never the same. */
static uint64_t boot_hash(void)
{
	char id[48] = "";	/* 36 digits */
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, sizeof(id));

	if (fd >= 0)
		close(fd);
	return n > 0 ? (uint64_t)zd_crc32c(1, id, sizeof(id)) << 32 |
		       zd_crc32c(2, id, sizeof(id)) | 1 : 0;
}

/* --- its form --- */

static uint64_t checksum(const struct head *head, const unsigned char *rest, size_t len)
{
	uint32_t crc = zd_crc32c(0, head, offsetof(struct head, checksum));

	return zd_crc32c(crc, rest, len);
}

static size_t put_number(unsigned char *to, uint64_t n)
{
	size_t len = 0;

	for (; n > 127; n >>= 7)
		to[len++] = n | 128;
	to[len++] = n;
	return len;
}

/* How long it is; 0: it isn't one. */
static size_t get_number(const unsigned char *from, const unsigned char *end, uint64_t *n)
{
	*n = 0;
	for (size_t len = 0; from + len < end && len < MAX_NUMBER; len++) {
		*n |= (uint64_t)(from[len] & 127) << (7 * len);
		if (!(from[len] & 128))
			return len + 1;
	}
	return 0;
}

static unsigned char *put_ranges(unsigned char *p, const struct zd_badblocks *bb)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < bb->nr; i++) {
		p += put_number(p, bb->ranges[i].first - at);
		p += put_number(p, bb->ranges[i].end - bb->ranges[i].first);
		at = bb->ranges[i].end;
	}
	return p;
}

/* zd_alloc()ed; NULL: no memory. */
static char *encode(const struct zd_media *m, const struct zd_record *r, bool elsewhere,
		    size_t *len)
{
	size_t nr = elsewhere ? 0 : (size_t)r->bad.nr + r->mended.nr;
	char *buf = zd_alloc(sizeof(struct head) + 2 * nr * MAX_NUMBER + sizeof(uint64_t));
	struct head *head = (struct head *)buf;
	unsigned char *rest, *p;

	if (!buf)
		return NULL;
	p = rest = (unsigned char *)(head + 1);
	if (!elsewhere)
		p = put_ranges(put_ranges(p, &r->bad), &r->mended);
	p += -(p - rest) & 7;
	memcpy(head->magic, MAGIC, sizeof(head->magic));
	head->bytes = htole64(r->bytes);
	head->nr_bad = htole32(elsewhere ? ELSEWHERE : r->bad.nr);
	head->nr_mended = htole32(elsewhere ? 0 : r->mended.nr);
	head->boot = htole64(boot_hash());
	head->ino = htole64(m->identity.ino);
	head->born_ns = htole64(m->identity.born_ns);
	head->checksum = htole64(checksum(head, rest, p - rest));
	*len = p - (unsigned char *)buf;
	return buf;
}

static int get_ranges(const unsigned char **p, const unsigned char *end, uint32_t count,
		      uint64_t sectors, struct zd_badblocks *bb)
{
	uint64_t at = 0, skip, nr;
	int rc = 0;

	for (uint32_t i = 0; i < count && !rc; i++) {
		size_t n = get_number(*p, end, &skip), k = n ? get_number(*p + n, end, &nr) : 0;

		if (!k || skip > sectors - at || !nr || nr > sectors - at - skip)
			return -EUCLEAN;
		at += skip + nr;
		rc = zd_badblocks_set(bb, at - nr, nr);
		*p += n + k;
	}
	return rc;
}

/* 0; 1: the ranges are elsewhere; -EUCLEAN; -ENOMEM. */
static int decode(const char *buf, size_t len, struct zd_record *r, struct head *head)
{
	const unsigned char *rest = (unsigned char *)buf + sizeof(*head), *p = rest;
	const unsigned char *end = (unsigned char *)buf + len;
	uint64_t sectors, boot = boot_hash();
	int rc;

	if (len < sizeof(*head) || len % sizeof(uint64_t))
		return -EUCLEAN;
	memcpy(head, buf, sizeof(*head));
	r->bytes = le64toh(head->bytes);
	sectors = r->bytes >> ZD_SECTOR_SHIFT;
	if (memcmp(head->magic, MAGIC, sizeof(head->magic)) ||
	    le64toh(head->checksum) != checksum(head, rest, end - rest))
		return -EUCLEAN;
	if (le32toh(head->nr_bad) == ELSEWHERE)
		return 1;
	rc = get_ranges(&p, end, le32toh(head->nr_bad), sectors, &r->bad);
	if (!rc)
		rc = get_ranges(&p, end, le32toh(head->nr_mended), sectors,
				boot && boot == le64toh(head->boot) ? &r->mended : &r->bad);
	if (rc)
		zd_record_exit(r);
	return rc;
}

/* --- PATH.zonedev --- */

int zd_record_path(const struct zd_media *m, const char *suffix, char *path, size_t len)
{
	char link[32];
	struct stat st;
	ssize_t n;

	if (fstat(m->fd, &st))
		return -errno;
	if (!st.st_nlink)
		return -ENOENT;		/* it has no name any more */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", m->fd);
	n = readlink(link, path, len);
	if (n < 0)
		return -errno;
	if ((size_t)n + strlen(suffix) >= len || *path != '/')
		return -ENAMETOOLONG;
	strcpy(path + n, suffix);
	return 0;
}

/* -ENODATA: there is none, or none to be trusted: anybody may make files in /tmp. */
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
	struct head head;
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
	rc = !buf ? -ENOMEM : n < 0 ? -errno : decode(buf, n, r, &head);
	close(fd);
	zd_free(buf);
	if (rc)
		return rc > 0 ? -EUCLEAN : rc;
	m->record.in_file = true;
	/* not by the device: its number may be another each time */
	if (le64toh(head.ino) == m->identity.ino && le64toh(head.born_ns) == m->identity.born_ns)
		return 0;
	zd_record_exit(r);
	return -ESTALE;
}

static int write_file(const char *path, const char *buf, size_t len)
{
	int fd, rc = 0;

	unlink(path);		/* of a process that was killed */
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
	struct head head;
	ssize_t n;
	int rc;

	if (!buf)
		return -ENOMEM;
	n = fgetxattr(m->fd, ZD_RECORD_NAME, buf, MAX_ATTRIBUTE);
	rc = n >= 0 ? decode(buf, n, r, &head) :
	     errno == EOPNOTSUPP || errno == ENOSYS ? -ENODATA : -errno;
	zd_free(buf);
	return rc;
}

static int set_attribute(const struct zd_media *m, const char *buf, size_t len)
{
	if (len > MAX_ATTRIBUTE)
		return -E2BIG;
	return fsetxattr(m->record.fd, ZD_RECORD_NAME, buf, len, 0) ? -errno : 0;
}

/* That the list is in PATH.zonedev.  Without this there must be none. */
static int point_to_file(const struct zd_media *m, const struct zd_record *r)
{
	size_t len;
	char *buf = encode(m, r, true, &len);
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

/* Is that an error of the place, so that another may do? */
static bool no_room(int rc)
{
	return rc == -ENOSPC || rc == -E2BIG || rc == -ERANGE || rc == -EDQUOT ||
	       rc == -EOPNOTSUPP || rc == -ENOSYS;
}

int zd_record_store(struct zd_media *m, const struct zd_record *r)
{
	size_t len;
	char *buf = encode(m, r, false, &len);
	int rc = buf ? set_attribute(m, buf, len) : -ENOMEM;

	if (!rc && m->record.in_file) {
		rc = zd_record_sync(m);
		if (!rc)
			remove_file(m);
	} else if (no_room(rc)) {
		bool none = rc == -EOPNOTSUPP || rc == -ENOSYS;

		/* that nothing is lost needs no file */
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

	/* The data is written back as well; that it can't be is told to this open file once,
	 * and before the attribute is written. */
	for (int i = 0; i < SYNC_TRIES; i++) {
		rc = fsync(m->record.fd) ? -errno : 0;
		if (!rc)
			break;
	}
	return rc;
}
