/* SPDX-License-Identifier: MIT */
/*
 * serve/listener.c - a control socket is made, beside those of other servers.
 *
 * A socket gets its name when it listens: it is bound under a name with a dot in front, and
 * renamed.  So a socket with a proper name that takes no connection is one whose server was
 * killed, and every process of the user may remove it.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/listener.h"
#include "serve/sockets.h"

/* Removes the sockets in @dir whose servers were killed. */
static void sweep(const char *dir)
{
	struct sockaddr_un addr;
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d && (entry = readdir(d)))
		/* A name with a dot: that server doesn't listen yet. */
		if (*entry->d_name != '.' && !socket_address(&addr, dir, entry->d_name) &&
		    socket_is_stale(&addr))
			unlink(addr.sun_path);
	if (d)
		closedir(d);
}

/* Returns 0, and @fd listens at @addr, which is @name in @dir; or -errno. */
static int bind_and_listen(int fd, const char *dir, const char *name, int backlog,
			   struct sockaddr_un *addr)
{
	struct sockaddr_un hidden;
	char dotted[132];
	int ret;

	snprintf(dotted, sizeof(dotted), ".%s", name);
	ret = socket_address(addr, dir, name);
	if (!ret)
		ret = socket_address(&hidden, dir, dotted);
	if (ret)
		return ret;
	/* A server that had this process's id, and was killed, may have left one. */
	unlink(hidden.sun_path);
	if (bind(fd, (struct sockaddr *)&hidden, sizeof(hidden)))
		return -errno;
	if (!listen(fd, backlog) && !rename(hidden.sun_path, addr->sun_path))
		return 0;
	ret = -errno;
	unlink(hidden.sun_path);
	return ret;
}

int listener_open(const char *path, int backlog, struct sockaddr_un *addr)
{
	char dir[PATH_MAX], key[96], name[128];
	int fd, ret;

	ret = control_dir(dir, sizeof(dir), true);
	if (ret)
		return ret;
	ret = control_key(path, key, sizeof(key));
	if (ret)
		return ret;
	snprintf(name, sizeof(name), "%s.%d", key, getpid());
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	sweep(dir);
	ret = bind_and_listen(fd, dir, name, backlog, addr);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

void listener_close(int fd, const struct sockaddr_un *addr)
{
	unlink(addr->sun_path);
	close(fd);
}
