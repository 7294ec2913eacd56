/* SPDX-License-Identifier: MIT */
/*
 * From a path to a file that can hold a region: open, locked, of the right size.
 *
 * A file that is made here and can't be used is removed again; a file that was there is never
 * changed, but that an empty one gets its size.
 *
 * All of it is called by the one thread that opens (or closes) the region, and may block.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/sized.h"
#include "drivers/dax/devdax.h"
#include "drivers/explain.h"
#include "drivers/file_lock.h"
#include "drivers/label.h"
#include "drivers/media/record.h"
#include "drivers/pmem/pmem.h"
#include "drivers/sync_dir.h"

#define OPEN_TRIES	16

struct opening {
	const char *path;
	const struct zd_pmem_attr *attr;
	struct zd_media *m;
	struct stat st;
	bool made;			/* the file, by this opening */
	char *err;
	size_t errlen;
};

#define fail(o, rc, ...)	zd_explain((o)->err, (o)->errlen, rc, __VA_ARGS__)

/* --- open --- */

static int explain_open(struct opening *o, int rc)
{
	switch (rc) {
	case -ENOENT:
		return fail(o, rc, "%s isn't there: create it first, or name another", o->path);
	case -EBUSY:
		return fail(o, rc, "%s is in use: unmount it, or name another", o->path);
	default:
		return fail(o, rc, "%s: %s: name a file that you may %s", o->path, strerror(-rc),
			    o->m->readonly ? "read" : "read and write");
	}
}

const char *zd_pmem_memfd_name(const char *path)
{
	static const char prefix[] = "memfd:";
	size_t len = sizeof(prefix) - 1;

	return strncmp(path, prefix, len) ? NULL : path + len;
}

static int open_memfd(struct opening *o, const char *name)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return fail(o, -errno, "%s: %s", o->path, strerror(errno));
	o->m->fd = fd;
	if (!o->attr->bytes)
		return fail(o, -EINVAL, "%s: a memfd needs a size: add size=64M", o->path);
	if (ftruncate(fd, o->attr->bytes) || fcntl(fd, F_ADD_SEALS, seals))
		return fail(o, -errno, "%s: can't have %llu bytes: %s", o->path,
			    (unsigned long long)o->attr->bytes, strerror(errno));
	o->m->sealed = true;
	return 0;
}

static int open_node(const char *name, int flags, bool block)
{
	int fd;

	if (block)
		return zd_open_exclusive(name, flags);
	fd = open(name, flags);
	return fd < 0 ? -errno : fd;
}

/*
 * By the kernel's own node, so that all openers share the lock of one inode.  A block device with
 * O_EXCL, against mounts and writers; a reader gives O_EXCL up again, or there could be only
 * one reader.
 */
static int open_device(struct opening *o, int flags, bool block)
{
	char node[256];
	const char *name = zd_device_node(o->path, node, sizeof(node));
	int fd = open_node(name, flags, block), shared;

	/* the user may be allowed to open @path and not the kernel's node */
	if ((fd == -EACCES || fd == -EPERM) && name != o->path)
		fd = open_node(name = o->path, flags, block);
	if (fd < 0)
		return explain_open(o, fd);
	o->m->fd = fd;
	if (!block || !o->m->readonly)
		return 0;
	shared = open(name, flags);
	if (shared < 0)
		return explain_open(o, -errno);
	o->m->fd = shared;
	close(fd);
	return 0;
}

static int open_path(struct opening *o)
{
	/* O_NONBLOCK: opening a pipe must not wait for its other end */
	int flags = (o->m->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	const char *memfd = zd_pmem_memfd_name(o->path);
	struct stat st;

	if (memfd)
		return open_memfd(o, memfd);
	o->made = false;
	if (!stat(o->path, &st) && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)))
		return open_device(o, flags, S_ISBLK(st.st_mode));
	o->m->fd = open(o->path, flags);
	if (o->m->fd < 0 && errno == ENOENT && o->attr->flags & ZD_PMEM_CREATE && !o->m->readonly) {
		o->m->fd = open(o->path, flags | O_CREAT | O_EXCL, 0600);
		o->made = o->m->fd >= 0;
	}
	return o->m->fd < 0 ? explain_open(o, -errno) : 0;
}

/* Readers share the lock.  The opening that made the file doesn't own the file before it has the
 * lock: another opening may have been faster. */
static int lock(struct opening *o)
{
	if (!zd_lock_file(o->m->fd, o->m->readonly))
		return 0;
	return fail(
		o, -EBUSY,
		"%s is open as a region already, here or in another process, or locked by another program: close it there first",
		o->path);
}

/* Is the locked file still what @path names?  Another opening may have made it in vain, and
 * unlinked it before the lock was free. */
static bool is_named_so(const struct opening *o)
{
	struct stat by_fd, by_path;

	if (zd_pmem_memfd_name(o->path) || fstat(o->m->fd, &by_fd))
		return true;
	if (stat(o->path, &by_path))
		return errno != ENOENT;
	/* a device is what its number says, whatever node leads to it */
	if (S_ISBLK(by_fd.st_mode) || S_ISCHR(by_fd.st_mode))
		return by_fd.st_rdev == by_path.st_rdev;
	return by_fd.st_dev == by_path.st_dev && by_fd.st_ino == by_path.st_ino;
}

static int open_and_lock(struct opening *o)
{
	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		int rc = open_path(o);

		/* another process has just made it */
		if (rc == -EEXIST)
			continue;
		if (!rc)
			rc = lock(o);
		if (rc)
			return rc;
		if (is_named_so(o)) {
			o->m->created = o->made;
			return 0;
		}
		close(o->m->fd);
		o->m->fd = -1;
	}
	return fail(o, -EBUSY, "%s is made and removed all the time by somebody else: name another",
		    o->path);
}

/* A new file's name must be there, too, after the power went. */
static int sync_name(struct opening *o)
{
	int rc = fsync(o->m->fd) ? -errno : zd_sync_dir(o->path);

	return rc ? fail(o, rc, "%s: can't be made durable: %s", o->path, strerror(-rc)) : 0;
}

/* --- size and kind --- */

static int find_bytes(struct opening *o, uint64_t *bytes)
{
	*bytes = 0;
	o->m->align = ZD_PAGE_SIZE;
	if (fstat(o->m->fd, &o->st))
		return -errno;
	if (S_ISREG(o->st.st_mode))
		*bytes = o->st.st_size;
	else if (S_ISBLK(o->st.st_mode))
		return ioctl(o->m->fd, BLKGETSIZE64, bytes) ? -errno : 0;
	else if (S_ISCHR(o->st.st_mode))
		return zd_devdax_probe(o->st.st_rdev, bytes, &o->m->align) ? -ENOTBLK : 0;
	else
		return -ENOTBLK;
	return 0;
}

/* An empty file becomes as long as it is asked to be. */
static int extend(struct opening *o, uint64_t *bytes)
{
	uint64_t want = o->attr->bytes;

	if (*bytes || !S_ISREG(o->st.st_mode))
		return 0;
	if (!want)
		return fail(o, -EINVAL, "%s is empty: say how large it is to be, as in size=1G",
			    o->path);
	if (o->m->readonly)
		return fail(o, -EINVAL,
			    "%s is empty, and opened read-only: there is nothing to read", o->path);
	if (want % ZD_PAGE_SIZE)
		return fail(o, -EINVAL, "size=%llu is not a multiple of 4096",
			    (unsigned long long)want);
	if (ftruncate(o->m->fd, want))
		return fail(o, -errno, "%s: can't be made %llu bytes long: %s", o->path,
			    (unsigned long long)want, strerror(errno));
	*bytes = want;
	return 0;
}

static int set_size(struct opening *o)
{
	uint64_t bytes;
	int rc = find_bytes(o, &bytes);

	if (rc == -ENOTBLK)
		return fail(o, rc,
			    "%s is neither a file nor a block device nor device-dax: name one",
			    o->path);
	if (rc)
		return explain_open(o, rc);
	rc = zd_media_record_open(o->m, o->path, bytes, o->attr->bytes, o->err, o->errlen);
	if (!rc)
		rc = extend(o, &bytes);
	if (rc)
		return rc;
	if (o->attr->bytes && o->attr->bytes != bytes)
		return fail(o, -EINVAL, "%s has %llu bytes, not %llu: leave the size out", o->path,
			    (unsigned long long)bytes, (unsigned long long)o->attr->bytes);
	if (!bytes || bytes % ZD_PAGE_SIZE)
		return fail(
			o, -EINVAL,
			"%s has %llu bytes, which is not a multiple of 4096: use truncate -s %%4096",
			o->path, (unsigned long long)bytes);
	o->m->bytes = bytes;
	return 0;
}

/* Tried beyond the end, where it changes nothing. */
static bool can_punch(const struct zd_media *m)
{
	return !fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, m->bytes,
			  ZD_PAGE_SIZE);
}

static void set_kind(struct opening *o)
{
	struct zd_media *m = o->m;
	bool regular = S_ISREG(o->st.st_mode);
	struct statfs fs;
	int seals;

	m->block = S_ISBLK(o->st.st_mode);
	/* a read-only region has holes to be seen, at least; where holes can't be punched a
	 * DISCARD must not fill the file with zeros instead */
	m->has_holes = regular && (m->readonly || can_punch(m));
	m->can_allocate = regular && !m->readonly;
	seals = fcntl(m->fd, F_GET_SEALS);
	m->can_shrink = regular && (seals < 0 || !(seals & F_SEAL_SHRINK));
	/* a file in memory isn't durable, however often it is msync'ed */
	if (regular && !fstatfs(m->fd, &fs) &&
	    (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC))
		m->persist = ZD_PMEM_PERSIST_NONE;
	else
		m->persist = ZD_PMEM_PERSIST_PAGE;
}

/*
 * An open file for the mappings of zd_dax_mmap().  The kernel tells each open file once of what
 * it couldn't write back; a program that calls msync() on its own mapping must not be told in
 * the region's place.
 */
static void open_program_fd(struct zd_media *m)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
	m->program_fd = open(path, (m->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (m->program_fd < 0)		/* no /proc: the mappings have to share m->fd */
		m->program_fd = m->fd;
}

void zd_pmem_close_file(struct zd_media *m)
{
	if (m->program_fd != m->fd)
		close(m->program_fd);
	zd_media_record_close(m);
	zd_unlock_file(m->fd);
	close(m->fd);
}

static int check_attr(struct opening *o)
{
	const struct zd_pmem_attr *a = o->attr;
	unsigned int all = ZD_PMEM_CREATE | ZD_PMEM_READONLY | ZD_PMEM_BTT | ZD_PMEM_FORCE;

	if (a->size < sizeof(*a) || a->flags & ~all || !zd_tail_is_zero(a, sizeof(*a), a->size))
		return fail(o, -EINVAL, "unknown flags");
	if (a->bytes % ZD_PAGE_SIZE)
		return fail(o, -EINVAL, "size=%llu is not a multiple of 4096",
			    (unsigned long long)a->bytes);
	if (a->btt_block && a->btt_block != 512 && a->btt_block != 4096)
		return fail(o, -EINVAL, "a BTT's block is 512 or 4096 bytes");
	return 0;
}

int zd_pmem_open_file(const char *path, const struct zd_pmem_attr *attr, struct zd_media *m,
		      char *err, size_t errlen)
{
	struct opening o = { .path = path, .attr = attr, .m = m, .err = err, .errlen = errlen };
	int rc = check_attr(&o);

	m->fd = m->record.fd = -1;
	m->readonly = attr->flags & ZD_PMEM_READONLY;
	if (!rc)
		rc = open_and_lock(&o);
	if (!rc) {
		zd_media_identify(m);
		rc = set_size(&o);
	}
	if (!rc && m->created)
		rc = sync_name(&o);
	if (!rc) {
		set_kind(&o);
		open_program_fd(m);
		return 0;
	}
	if (m->created)
		unlink(path);
	m->created = false;
	zd_media_record_close(m);
	if (m->fd >= 0)
		close(m->fd);
	return rc;
}

/* --- is there anything in it? --- */

static int64_t media_extent(void *medium, uint64_t off, uint64_t len, bool *hole)
{
	return zd_media_extent(medium, off, len, hole);
}

static int media_read(void *medium, uint64_t off, char *buf, size_t len)
{
	return zd_media_get(medium, off, buf, len);
}

/* Of a file with holes all that isn't a hole is looked at, of anything else the label. */
int zd_pmem_has_data(struct zd_media *m)
{
	static const struct zd_scan_ops media = { .extent = media_extent, .read = media_read };
	uint64_t end = m->has_holes || m->bytes < ZD_LABEL_BYTES ? m->bytes : ZD_LABEL_BYTES;

	return zd_scan_has_data(&media, m, end);
}
