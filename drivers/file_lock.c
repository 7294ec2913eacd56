/* SPDX-License-Identifier: MIT */
#include "drivers/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "drivers/sysfs.h"

#define TRIES	25
#define TRY_NS	20000000

/* Wait before the next try; false: there were enough. */
static bool wait_to_retry(int *tries)
{
	const struct timespec pause = { .tv_nsec = TRY_NS };

	if (++*tries > TRIES)
		return false;
	nanosleep(&pause, NULL);
	return true;
}

int zd_lock_file(int fd, bool shared)
{
	/* up to the byte that media/record.c locks */
	struct flock lock = { .l_type = shared ? F_RDLCK : F_WRLCK,
			      .l_whence = SEEK_SET,
			      .l_len = ZD_LOCK_BYTES };
	int tries = 0;

	while (fcntl(fd, F_OFD_SETLK, &lock)) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return 0;		/* a file system without locks */
		if (!wait_to_retry(&tries))
			return -EBUSY;
	}
	return 0;
}

void zd_unlock_file(int fd)
{
	struct flock none = { .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_len = ZD_LOCK_BYTES };

	fcntl(fd, F_OFD_SETLK, &none);
}

int zd_open_exclusive(const char *path, int flags)
{
	int tries = 0, fd;

	do
		fd = open(path, flags | O_EXCL);
	while (fd < 0 && errno == EBUSY && wait_to_retry(&tries));
	return fd < 0 ? -errno : fd;
}

/* The kernel's name of the device, from the line "DEVNAME=loop0" of its uevent attribute. */
static bool read_devname(const struct stat *st, char *name, size_t len)
{
	char text[1024], *at;

	if (zd_sysfs_read(st->st_mode, st->st_rdev, "uevent", text, sizeof(text)))
		return false;
	at = strstr(text, "DEVNAME=");
	if (!at)
		return false;
	at += strlen("DEVNAME=");
	at[strcspn(at, "\n")] = '\0';
	return (size_t)snprintf(name, len, "/dev/%s", at) < len;
}

const char *zd_device_node(const char *path, char *name, size_t len)
{
	struct stat st, node;

	if (stat(path, &st) || !(S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)) ||
	    !read_devname(&st, name, len) || stat(name, &node) || node.st_rdev != st.st_rdev ||
	    (node.st_mode ^ st.st_mode) & S_IFMT)
		return path;
	return name;
}
