/* SPDX-License-Identifier: MIT */
#include "drivers/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void attr_path(mode_t mode, dev_t rdev, const char *attr, char *path, size_t len)
{
	snprintf(path, len, "/sys/dev/%s/%u:%u/%s", S_ISBLK(mode) ? "block" : "char", major(rdev),
		 minor(rdev), attr);
}

int zd_sysfs_read(mode_t mode, dev_t rdev, const char *attr, char *text, size_t len)
{
	char path[128];
	ssize_t n;
	int fd;

	attr_path(mode, rdev, attr, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, len - 1);
	close(fd);
	if (n <= 0)
		return -ENODEV;
	text[n] = '\0';
	return 0;
}

int zd_sysfs_read_u64(mode_t mode, dev_t rdev, const char *attr, uint64_t *value)
{
	char text[32], *end;
	int rc = zd_sysfs_read(mode, rdev, attr, text, sizeof(text));

	if (rc)
		return rc;
	*value = strtoull(text, &end, 0);
	return end == text ? -ENODEV : 0;
}

int zd_sysfs_subsystem(mode_t mode, dev_t rdev, char *name, size_t len)
{
	char path[128], target[PATH_MAX];
	const char *slash;
	ssize_t n;

	attr_path(mode, rdev, "subsystem", path, sizeof(path));
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -ENODEV;
	target[n] = '\0';
	slash = strrchr(target, '/');
	if (!slash || (size_t)snprintf(name, len, "%s", slash + 1) >= len)
		return -ENODEV;
	return 0;
}
