/* SPDX-License-Identifier: MIT */
/* Where the control sockets are; for the plugin and for the command. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "nbdkit/control.h"

#define MEMFD "memfd:"

int control_dir(char *dir, size_t len, bool create)
{
	unsigned int uid = geteuid();
	char parent[64];
	struct stat st;
	int n;

	snprintf(parent, sizeof(parent), "/run/user/%u", uid);
	if (!uid)
		n = snprintf(dir, len, "/run/zonedev");
	else if (!stat(parent, &st) && st.st_uid == uid)
		n = snprintf(dir, len, "%s/zonedev", parent);
	else
		n = snprintf(dir, len, "/tmp/zonedev-%u", uid);
	if (n < 0 || (size_t)n >= len)
		return -ENAMETOOLONG;
	if (create && mkdir(dir, 0700) && errno != EEXIST)
		return -errno;
	/* In /tmp anybody could have made it first. */
	if (lstat(dir, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != uid || st.st_mode & 077)
		return -EPERM;
	return 0;
}

int control_key(const char *path, char *key, size_t len)
{
	struct stat st;
	int n;

	if (!strncmp(path, MEMFD, strlen(MEMFD))) {
		n = snprintf(key, len, "memfd-%s", path + strlen(MEMFD));
		for (char *p = key; n > 0 && (size_t)n < len && *p; p++)
			if (*p == '/')
				*p = '!';
	} else if (stat(path, &st)) {
		return -errno;
	} else if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)) {
		n = snprintf(key, len, "%s-%u-%u", S_ISBLK(st.st_mode) ? "block" : "char",
			     major(st.st_rdev), minor(st.st_rdev));
	} else {
		n = snprintf(key, len, "file-%llx-%llu", (unsigned long long)st.st_dev,
			     (unsigned long long)st.st_ino);
	}
	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

int control_address(struct sockaddr_un *addr, const char *dir, const char *name)
{
	int n;

	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	n = snprintf(addr->sun_path, sizeof(addr->sun_path), "%s/%s", dir, name);
	return n < 0 || (size_t)n >= sizeof(addr->sun_path) ? -ENAMETOOLONG : 0;
}

bool control_is_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	bool stale;
	int fd;

	if (lstat(addr->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	stale = fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) &&
		errno == ECONNREFUSED;
	if (fd >= 0)
		close(fd);
	return stale;
}
