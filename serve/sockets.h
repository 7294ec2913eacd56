/* SPDX-License-Identifier: MIT */
/*
 * serve/sockets.h - where a user's servers have their unix sockets, and what they are called.
 *
 * server_dir() is the directory of all of them; a server of which no other address is asked
 * for serves there.  Control sockets (control.h) are in its subdirectory control_dir(), and
 * are called KEY.PID: KEY names the region whatever path leads to it, PID is the server's
 * process.  So servers that share a region read-only have a control socket each.
 */
#ifndef ZD_SERVE_SOCKETS_H
#define ZD_SERVE_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

/*
 * server_dir - /run/zonedev for root, else .zonedev/HOST in the user's home directory.
 * control_dir - its subdirectory of control sockets.
 *
 * The home is that of the user database, or $HOME for a user that the database doesn't have.
 * So all programs of a user agree on the place, whatever session or service they belong to:
 * not /run/user/UID or $XDG_RUNTIME_DIR, which come and go with sessions, nor /tmp, where
 * another user could be first.  HOST: a home may be on several hosts, a socket is on one.
 *
 * @len: PATH_MAX is enough.  @create: make the directory.  0; -ENOENT; -EPERM: the directory
 * is there, but other users have access to it; -errno.
 */
int server_dir(char *dir, size_t len, bool create);
int control_dir(char *dir, size_t len, bool create);

/* control_key - of the region at @path: the file's device and inode, the numbers of the
 * device that @path stands for, or the memfd's name.  0 or -errno. */
int control_key(const char *path, char *key, size_t len);

/* socket_address - of the socket @name in @dir, however long that is.  0 or -errno.  One
 * thread at a time. */
int socket_address(struct sockaddr_un *addr, const char *dir, const char *name);

/*
 * socket_is_stale - was the socket at @addr left by a process that was killed?  Found out
 * with a socket of another type, which can't connect: a server that is alive notices nothing.
 */
bool socket_is_stale(const struct sockaddr_un *addr);

#endif
