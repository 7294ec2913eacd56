/* SPDX-License-Identifier: MIT */
/*
 * drivers/file/open.c - from a path to a descriptor that is safe to use.
 *
 * A device file holds the program's memory, so no other user may read it (mode
 * 0600, also where the file was there before), two devices may not share it
 * (drivers/file_lock.h; O_EXCL on a block device), and data that the file holds is
 * overwritten only with ZD_FILE_FORCE.  A file that outlives the device is left
 * empty, and a block device with its label zeroed (drivers/label.h), so that the
 * next run finds it free.
 *
 * Everything here runs once, when the device is created or destroyed, in a
 * thread that may block.
 */
#include "drivers/file/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "drivers/file_lock.h"
#include "drivers/label.h"
#include "zonedev/file.h"
#include "zonedev/log.h"

#define MAX_BYTES (1ULL << (ZD_PFN_BITS + ZD_PAGE_SHIFT))

static int open_unnamed(void)
{
	const char *dir = secure_getenv("TMPDIR");
	char path[4096];
	int fd, n;

	if (!dir || !*dir)
		dir = "/var/tmp";
	fd = open(dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	if (errno != EOPNOTSUPP && errno != EISDIR)
		return -errno;
	n = snprintf(path, sizeof(path), "%s/zonedev.XXXXXX", dir);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

/* Lock and empty a regular file that was there before.  @st: what it was then. */
static int take_file(int fd, unsigned int flags, struct stat *st)
{
	int ret = zd_lock_file(fd, false);

	if (ret)
		return ret;
	if (fstat(fd, st))
		return -errno;
	if (st->st_size && !(flags & ZD_FILE_FORCE))
		return -EEXIST;
	if ((st->st_mode & 077) && fchmod(fd, 0600))
		return -errno;
	if (ftruncate(fd, 0))
		return -errno;
	return 0;
}

static int read_block(void *medium, uint64_t off, char *buf, size_t len)
{
	const int *fd = medium;

	while (len) {
		ssize_t n = pread(*fd, buf, len, (off_t)off);

		if (n <= 0)
			return n ? -errno : -EIO;
		buf += n;
		off += n;
		len -= n;
	}
	return 0;
}

static int take_block(int fd, unsigned int flags, struct zd_file_target *target)
{
	static const struct zd_scan_ops block = { .read = read_block };
	uint64_t bytes;
	int has_data;

	if (ioctl(fd, BLKGETSIZE64, &bytes))
		return -errno;
	if (!target->size)
		target->size = bytes;
	if (target->size > bytes)
		return -ENOSPC;
	if (flags & ZD_FILE_FORCE)
		return 0;
	has_data = zd_scan_has_data(&block, &fd, bytes < ZD_LABEL_BYTES ? bytes : ZD_LABEL_BYTES);
	return has_data > 0 ? -EEXIST : has_data;
}

/* Free bytes of the file system, for a device without a size. */
static uint64_t free_space(int fd)
{
	struct statvfs fs;

	if (fstatvfs(fd, &fs))
		return 0;
	return (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* Make the file as long as the device: from then on a shorter file is one that was truncated. */
static int extend(int fd, struct zd_file_target *target, uint64_t old_size)
{
	bool any_size = !target->size && !old_size;

	if (!target->size)
		target->size = old_size ? old_size : free_space(fd);
	/* More may be free than one file can have. */
	if (any_size && target->size > MAX_BYTES)
		target->size = MAX_BYTES;
	for (;; target->size /= 2) {
		target->size &= ZD_PAGE_MASK;
		if (!target->size)
			return -EINVAL;
		if (target->size > MAX_BYTES)
			return -EFBIG;
		if (!ftruncate(fd, target->size))
			return 0;
		if (!any_size || errno != EFBIG)
			return -errno;
	}
}

/* For regular files only: the node of a block device lives in a tmpfs. */
static bool is_ram_fs(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

/* What the kernel demands of O_DIRECT, where it can be asked.  False: pages don't meet it. */
static bool ask_alignment(struct zd_file_target *target)
{
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (!statx(target->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
	    (stx.stx_mask & STATX_DIOALIGN)) {
		target->align = stx.stx_dio_offset_align;
		return target->align && target->align <= ZD_PAGE_SIZE &&
		       stx.stx_dio_mem_align <= ZD_PAGE_SIZE;
	}
#endif
	target->align = ZD_PAGE_SIZE;
	return true;
}

/* O_DIRECT where it works for single pages, else buffered.  tmpfs accepts the
 * flag and ignores it. */
static void set_direct(struct zd_file_target *target)
{
	int fl = fcntl(target->fd, F_GETFL);
	void *page;

	if ((target->block || !is_ram_fs(target->fd)) && ask_alignment(target) &&
	    !fcntl(target->fd, F_SETFL, fl | O_DIRECT)) {
		page = zd_reserve(ZD_PAGE_SIZE);
		target->direct = page &&
				 pread(target->fd, page, ZD_PAGE_SIZE, 0) == (ssize_t)ZD_PAGE_SIZE;
		if (page)
			zd_unreserve(page, ZD_PAGE_SIZE);
		if (!target->direct)
			fcntl(target->fd, F_SETFL, fl);
	}
	if (!target->direct)
		target->align = 1;
}

static int take_existing(const char *path, unsigned int flags, struct zd_file_target *target)
{
	struct stat st;
	int fd, ret;

	if (stat(path, &st))
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -ENOTBLK;
	if (S_ISBLK(st.st_mode))
		fd = zd_open_exclusive(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
	else
		fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return S_ISBLK(st.st_mode) ? fd : -errno;
	target->fd = fd;
	if (fstat(fd, &st))
		ret = -errno;
	else if (S_ISBLK(st.st_mode)) {
		target->block = true;
		ret = take_block(fd, flags, target);
		target->size &= ZD_PAGE_MASK;
	} else if (S_ISREG(st.st_mode)) {
		ret = take_file(fd, flags, &st);
		if (!ret)
			ret = extend(fd, target, st.st_size);
		target->clear = !ret;
	} else {
		ret = -ENOTBLK;
	}
	return ret;
}

static int take_new(int fd, const char *path, unsigned int flags, struct zd_file_target *target)
{
	int ret;

	target->fd = fd;
	ret = zd_lock_file(fd, false);
	if (!ret)
		ret = extend(fd, target, 0);
	if (path && (ret || !(flags & ZD_FILE_KEEP)))
		unlink(path);
	else
		target->clear = path != NULL;
	return ret;
}

int zd_file_open(const char *path, uint64_t size, unsigned int flags, struct zd_file_target *target)
{
	int fd, ret;

	memset(target, 0, sizeof(*target));
	target->fd = -1;
	target->size = size & ZD_PAGE_MASK;
	if (flags & ~(ZD_FILE_FORCE | ZD_FILE_KEEP) || (size && !target->size))
		return -EINVAL;

	if (path)
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	else
		fd = open_unnamed();
	if (fd >= 0)
		ret = take_new(fd, path, flags, target);
	else if (path && (errno == EEXIST || errno == EISDIR))
		ret = take_existing(path, flags, target);
	else
		ret = path ? -errno : fd;
	if (!ret && !target->size)
		ret = -EINVAL;
	if (ret) {
		if (target->fd >= 0)
			close(target->fd);
		target->fd = -1;
		return ret;
	}
	set_direct(target);
	return 0;
}

/* The device is at its end: an error can only be told. */
static void clear_block(struct zd_file_target *target)
{
	int rc = zd_label_clear(target->fd, target->size);

	if (rc)
		zd_log(ZD_LOG_WARN, "file device: can't clear the first MiB: %s", strerror(-rc));
}

void zd_file_close(struct zd_file_target *target)
{
	if (target->block && target->clear)
		clear_block(target);
	else if (target->clear && ftruncate(target->fd, 0))
		zd_log(ZD_LOG_WARN, "file device: can't empty the file: %s", strerror(errno));
	zd_unlock_file(target->fd);
	close(target->fd);
	target->fd = -1;
}
