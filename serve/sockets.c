/* SPDX-License-Identifier: MIT */
/* Directories, names and addresses of servers' sockets; see sockets.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <zonedev/pmem.h>

#include "serve/sockets.h"

static bool is_home(const char *dir)
{
	struct stat st;

	return *dir == '/' && !stat(dir, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

static int find_home(char *home, size_t len)
{
	struct passwd pw, *found = NULL;
	const char *env = secure_getenv("HOME");
	char buf[4096];

	if (getpwuid_r(geteuid(), &pw, buf, sizeof(buf), &found) || !found || !is_home(pw.pw_dir)) {
		if (!env || !is_home(env))
			return -ENOENT;
	} else {
		env = pw.pw_dir;
	}
	return (size_t)snprintf(home, len, "%s", env) < len ? 0 : -ENAMETOOLONG;
}

/* Enters @name in @dir, which must be this user's alone: 0; -EPERM: it isn't; -errno. */
static int enter(char *dir, size_t len, const char *name, bool create)
{
	size_t n = strlen(dir);
	struct stat st;

	if ((size_t)snprintf(dir + n, len - n, "/%s", name) >= len - n)
		return -ENAMETOOLONG;
	if (create && mkdir(dir, 0700) && errno != EEXIST)
		return -errno;
	if (lstat(dir, &st))
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077) ? 0 : -EPERM;
}

int server_dir(char *dir, size_t len, bool create)
{
	char host[HOST_NAME_MAX + 1];
	int ret;

	if (!geteuid()) {
		snprintf(dir, len, "/run");
		return enter(dir, len, "zonedev", create);
	}
	if (gethostname(host, sizeof(host)))
		return -errno;
	ret = find_home(dir, len);
	if (!ret)
		ret = enter(dir, len, ".zonedev", create);
	return ret ? ret : enter(dir, len, host, create);
}

int control_dir(char *dir, size_t len, bool create)
{
	int ret = server_dir(dir, len, create);

	return ret ? ret : enter(dir, len, "control", create);
}

int control_key(const char *path, char *key, size_t len)
{
	const char *memfd = zd_pmem_memfd_name(path);
	struct stat st;
	int n;

	if (memfd) {
		n = snprintf(key, len, "memfd-%s", memfd);
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

/* A descriptor of @dir, by which the addresses of sockets in @dir are short: it stays open,
 * since addresses name it.  Its number, or -errno. */
static int short_dir(const char *dir)
{
	static char opened[PATH_MAX];
	static int fd = -1;

	if (fd >= 0 && !strcmp(opened, dir))
		return fd;
	if (fd >= 0)
		close(fd);
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(opened, sizeof(opened), "%s", dir);
	return fd < 0 ? -errno : fd;
}

int socket_address(struct sockaddr_un *addr, const char *dir, const char *name)
{
	size_t len = sizeof(addr->sun_path);
	int fd;

	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	if ((size_t)snprintf(addr->sun_path, len, "%s/%s", dir, name) < len)
		return 0;
	fd = short_dir(dir);
	if (fd < 0)
		return fd;
	return (size_t)snprintf(addr->sun_path, len, "/proc/self/fd/%d/%s", fd, name) < len ?
		       0 :
		       -ENAMETOOLONG;
}

bool socket_is_stale(const struct sockaddr_un *addr)
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
