/* SPDX-License-Identifier: MIT */
/* serve/listener.h - the listening control socket of a server. */
#ifndef ZD_SERVE_LISTENER_H
#define ZD_SERVE_LISTENER_H

#include <sys/un.h>

/*
 * listener_open - listen on the control socket of the region at @path.  Returns the
 * descriptor, which doesn't block, and the socket's address in @addr; or -errno.
 * listener_close - remove the socket and close @fd.
 */
int listener_open(const char *path, int backlog, struct sockaddr_un *addr);
void listener_close(int fd, const struct sockaddr_un *addr);

#endif
