/* SPDX-License-Identifier: MIT */
/* tools/serve_socket.h - where `zonedev serve` listens for NBD clients. */
#ifndef ZD_TOOLS_SERVE_SOCKET_H
#define ZD_TOOLS_SERVE_SOCKET_H

#include <limits.h>
#include <stddef.h>
#include <sys/types.h>

#define SERVE_PORT	"10809"		/* NBD's */

/*
 * struct serve_socket - @path: a unix socket, @port, @bind: TCP; as the user gave them,
 * each may be NULL.  With none of them: a unix socket in the user's own directory
 * (server_dir() of serve/sockets.h), which is called after the region.
 */
struct serve_socket {
	const char *path, *port, *bind;
	/* the result */
	int fd;				/* listens, doesn't block */
	char absolute[PATH_MAX];	/* of a unix socket, else empty */
	dev_t dev;			/* of the unix socket */
	ino_t ino;
};

/*
 * serve_listen - 0, or the exit status, when the user has been told.
 *
 * A user who may write to a unix socket may write to the region: so the socket has mode 0600.
 * A socket that a dead server has left is replaced; no other file of that name ever is.
 */
int serve_listen(struct serve_socket *s, const char *region);

/* serve_unlisten - remove the unix socket, if the file is still this server's. */
void serve_unlisten(struct serve_socket *s);

/* serve_uri - the address, as an NBD URI. */
void serve_uri(const struct serve_socket *s, char *uri, size_t len);

#endif
