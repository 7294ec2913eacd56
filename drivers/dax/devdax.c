/* SPDX-License-Identifier: MIT */
/* What sysfs says of a device-dax node. */
#include "drivers/dax/devdax.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int read_number(const char *path, uint64_t *value)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[32], *end;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -ENODEV;
	text[n] = '\0';
	*value = strtoull(text, &end, 0);
	return end == text ? -ENODEV : 0;
}

int zd_devdax_probe(dev_t rdev, uint64_t *size, uint64_t *align)
{
	char dir[64], path[128], target[PATH_MAX];
	const char *name;
	ssize_t n;
	int rc;

	snprintf(dir, sizeof(dir), "/sys/dev/char/%u:%u", major(rdev), minor(rdev));
	snprintf(path, sizeof(path), "%s/subsystem", dir);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -ENODEV;
	target[n] = '\0';
	name = strrchr(target, '/');
	if (!name || strcmp(name, "/dax"))
		return -ENODEV;
	snprintf(path, sizeof(path), "%s/size", dir);
	rc = read_number(path, size);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s/align", dir);
	return read_number(path, align);
}
