/* SPDX-License-Identifier: MIT */
/*
 * The socket of `zonedev serve`; see serve_socket.h.
 *
 * Servers that start at the same time and want the same name take turns: each locks the
 * directory (flock) from its look at a socket of that name until its own socket listens.  So
 * no server takes another's socket, which doesn't listen yet, for a dead server's.
 */
#include "tools/serve_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zonedev/pmem.h>

#include "serve/sockets.h"
#include "tools/cmd.h"

#define BACKLOG		128
#define MOST_NAMES	64		/* default sockets of regions that have the same name */
#define LOCK_TRIES	100		/* of 20 ms: another user may hold a lock on /tmp for long */

/* --- a unix socket --- */

/* A descriptor of the directory of @path, which holds the lock if it could be had; -1: none. */
static int lock_dir(const char *path)
{
	char copy[PATH_MAX];
	int fd;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i < LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB); i++)
		usleep(20000);
	return fd;
}

static int bind_private(int fd, const struct sockaddr_un *addr)
{
	mode_t mask = umask(0177);
	int ret = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? -errno : 0;

	umask(mask);
	return ret;
}

static int bind_and_listen(int fd, const struct sockaddr_un *addr)
{
	int ret = bind_private(fd, addr);

	if (ret == -EADDRINUSE && socket_is_stale(addr) && !unlink(addr->sun_path))
		ret = bind_private(fd, addr);
	if (ret)
		return ret;
	if (!listen(fd, BACKLOG))
		return 0;
	ret = -errno;
	unlink(addr->sun_path);
	return ret;
}

/* Listens at s->absolute, which fits.  0 or -errno. */
static int listen_at(struct serve_socket *s)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int dir = lock_dir(s->absolute), ret;
	struct stat st;

	strcpy(addr.sun_path, s->absolute);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ret = s->fd < 0 ? -errno : bind_and_listen(s->fd, &addr);
	if (!ret && !lstat(s->absolute, &st)) {
		s->dev = st.st_dev;
		s->ino = st.st_ino;
	}
	if (ret && s->fd >= 0)
		close(s->fd);
	if (dir >= 0)
		close(dir);
	return ret;
}

static bool fits(const char *path)
{
	return strlen(path) < sizeof(((struct sockaddr_un *)NULL)->sun_path);
}

static const char *why_not(const struct serve_socket *s, int ret)
{
	struct stat st;

	if (ret != -EADDRINUSE)
		return strerrordesc_np(-ret);
	if (!lstat(s->absolute, &st) && !S_ISSOCK(st.st_mode))
		return "it is there already, and is no socket: name another";
	return "it is there already, and a server listens on it: end that, or name another";
}

static int listen_unix(struct serve_socket *s)
{
	char dir[PATH_MAX];
	int ret;

	/* An empty name would be an abstract socket, to which any user may connect. */
	if (!*s->path)
		return cmd_error("--socket: give the path of the socket");
	if (*s->path == '/')
		ret = snprintf(s->absolute, PATH_MAX, "%s", s->path);
	else if (getcwd(dir, sizeof(dir)))
		ret = snprintf(s->absolute, PATH_MAX, "%s/%s", dir, s->path);
	else
		return cmd_error("--socket %s: give a path from /", s->path);
	if (ret >= PATH_MAX || !fits(s->absolute))
		return cmd_error(
			"--socket %s: longer from / than the %zu bytes that a client can name",
			s->path, sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
	ret = listen_at(s);
	return ret ? cmd_error("--socket %s: %s", s->path, why_not(s, ret)) : 0;
}

/* Listens at /run/zonedev/disk.sock, or disk-2.sock and so on where another server does. */
static int listen_default(struct serve_socket *s, const char *region)
{
	const char *slash = strrchr(region, '/'), *name = slash ? slash + 1 : region;
	char dir[PATH_MAX - 256];
	int ret = server_dir(dir, sizeof(dir), true);

	if (ret == -EPERM)
		return cmd_error(
			"%s isn't a directory of this user's alone: remove it, or give --socket PATH",
			dir);
	if (ret)
		return cmd_error("no directory for the socket (%s): give --socket PATH",
				 strerrordesc_np(-ret));
	if (zd_pmem_memfd_name(name))
		name = zd_pmem_memfd_name(name);
	ret = -EADDRINUSE;
	for (int i = 1; i <= MOST_NAMES && ret == -EADDRINUSE; i++) {
		if (i == 1)
			snprintf(s->absolute, PATH_MAX, "%s/%.200s.sock", dir, name);
		else
			snprintf(s->absolute, PATH_MAX, "%s/%.200s-%d.sock", dir, name, i);
		ret = fits(s->absolute) ? listen_at(s) : -ENAMETOOLONG;
	}
	return ret ? cmd_error("can't listen on %s: %s: give --socket PATH", s->absolute,
			       strerrordesc_np(-ret)) :
		     0;
}

/* --- TCP --- */

static int listen_tcp(struct serve_socket *s)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE },
			*ai;
	const char *bind_to = s->bind ? s->bind : "127.0.0.1";
	const char *port = s->port ? s->port : SERVE_PORT;
	int on = 1, ret = 0;

	if (getaddrinfo(bind_to, port, &hints, &ai))
		return cmd_error("--bind %s: not an address (try 0.0.0.0 or 192.168.1.2)", bind_to);
	s->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0 || setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(s->fd, ai->ai_addr, ai->ai_addrlen) || listen(s->fd, BACKLOG)) {
		ret = cmd_error("can't listen on port %s of %s: %s", port, bind_to,
				strerrordesc_np(errno));
		if (s->fd >= 0)
			close(s->fd);
	}
	freeaddrinfo(ai);
	return ret;
}

/* --- of either kind --- */

int serve_listen(struct serve_socket *s, const char *region)
{
	if (s->path)
		return listen_unix(s);
	return s->port || s->bind ? listen_tcp(s) : listen_default(s, region);
}

void serve_unlisten(struct serve_socket *s)
{
	struct stat st;

	if (*s->absolute && !lstat(s->absolute, &st) && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->absolute);
	/* Once: the inode number may be given to another file, such as the next server's socket. */
	*s->absolute = '\0';
}

/* By RFC 3986 and NBD's URI specification: a byte that isn't one of these becomes %XX. */
static void escape(const char *path, char *out, size_t len)
{
	size_t n = 0;

	for (; *path && n + 4 <= len; path++) {
		if ((*path >= '0' && *path <= '9') || (*path >= 'A' && *path <= 'Z') ||
		    (*path >= 'a' && *path <= 'z') || strchr("/-._~", *path))
			out[n++] = *path;
		else
			n += snprintf(out + n, len - n, "%%%02X", (unsigned char)*path);
	}
	out[n] = '\0';
}

void serve_uri(const struct serve_socket *s, char *uri, size_t len)
{
	char host[64] = "", port[16] = "", path[3 * PATH_MAX];
	struct sockaddr_storage addr;
	socklen_t addrlen = sizeof(addr);
	bool v6;

	if (*s->absolute) {
		escape(s->absolute, path, sizeof(path));
		snprintf(uri, len, "nbd+unix:///?socket=%s", path);
		return;
	}
	getsockname(s->fd, (struct sockaddr *)&addr, &addrlen);
	getnameinfo((struct sockaddr *)&addr, addrlen, host, sizeof(host), port, sizeof(port),
		    NI_NUMERICHOST | NI_NUMERICSERV);
	v6 = addr.ss_family == AF_INET6;
	snprintf(uri, len, "nbd://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
}
