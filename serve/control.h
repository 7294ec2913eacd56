/* SPDX-License-Identifier: MIT */
/*
 * How `zonedev remove` and `zonedev add` talk to the server of a region.
 *
 * A server listens on a socket (SOCK_SEQPACKET: a message is a packet) called
 * DIR/KEY.PID, where DIR is the user's own, KEY names the region whatever path
 * leads to it, and PID the server: those that share a region read-only each have
 * a socket.  DIR is nobody else's, so whoever can connect may.
 *
 *	to the server	remove MS	take the region away; MS < 0: wait for ever
 *			add		open it again
 *	from it		wait TEXT	still waiting, for TEXT; more follows
 *			ok
 *			lost TEXT	it is away, and not all that was written is safe
 *			held TEXT	the time is over; it goes on waiting by itself
 *			no TEXT		it is so already, or not yet
 *			error TEXT
 *
 * All but "wait" end the talk.
 */
#ifndef ZD_SERVE_CONTROL_H
#define ZD_SERVE_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#define CONTROL_MESSAGE	1024	/* the longest, with its zero */

/*
 * server_dir - this user's directory of servers' sockets: /run/zonedev for root, else
 * .zonedev/HOST in the home directory.  There a server with no other address listens.
 * control_dir - its subdirectory of control sockets.
 *
 * The home is that of the user database, or $HOME for a user that it doesn't have.  So all
 * that a user runs agrees on the place, whatever session or service it belongs to: not
 * /run/user/UID or $XDG_RUNTIME_DIR, which come and go with sessions, nor /tmp, where
 * another user could be first.  HOST: a home may be on several hosts, a socket is on one.
 *
 * @len: PATH_MAX is enough.  @create: make it.  0; -ENOENT; -EPERM: it is there, but isn't
 * the user's alone; -errno.
 */
int server_dir(char *dir, size_t len, bool create);
int control_dir(char *dir, size_t len, bool create);

/* control_key - the region at @path: by its device and inode, or the device that
 * it stands for, or a memfd's name.  0 or -errno. */
int control_key(const char *path, char *key, size_t len);

/* control_address - of the socket NAME in @dir, however long that is.  0 or -errno. */
int control_address(struct sockaddr_un *addr, const char *dir, const char *name);

/*
 * control_is_stale - was the socket at @addr left by a process that was killed?  Asked
 * by a socket of another type, which can't connect: who is alive isn't bothered.
 */
bool control_is_stale(const struct sockaddr_un *addr);

/* --- the server's side: control.c --- */

/*
 * control_start - start the thread that takes the region of region.h, at @path, away
 * and brings it back.  0 or -errno.
 * control_stop - end it.  The region may be in the middle of its removal.
 */
int control_start(const char *path);
void control_stop(void);

#endif
