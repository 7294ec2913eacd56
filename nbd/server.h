/* SPDX-License-Identifier: MIT */
/*
 * nbd/server.h - the region of serve/region.h as a network block device.
 *
 * The server of `zonedev serve`.  Its promise is what nbdkit 1.32, in which the same
 * region runs as a plugin, can't give: a client can end its own connection only,
 * whatever it sends, however it leaves, and whether it reads or not.
 */
#ifndef ZD_NBD_SERVER_H
#define ZD_NBD_SERVER_H

#include <stdbool.h>
#include <stddef.h>

struct nbd_conn;

#define NBD_DEFAULT_CLIENTS	128
#define NBD_MOST_CLIENTS	4096

/*
 * nbd_server_init - before any thread: signals that end the server are blocked, and
 * descriptors for its clients are asked for.  0 or -errno.
 *
 * @max_clients: connections at a time; with so many, one that hasn't shaken hands for a
 * second makes room for a new one, and where there is none the new one is turned away.
 * @readonly: clients may not write.
 */
int nbd_server_init(unsigned int max_clients, bool readonly);

/*
 * nbd_server_run - serve who connects to @listener, a listening socket that doesn't block,
 * until a signal ends it; then until every client has its replies, or 5 seconds have
 * passed.  The region is open.  @stop_listening: called, once, just before the listener
 * is closed.
 * Returns when no connection is left.
 */
void nbd_server_run(int listener, void (*stop_listening)(void));

/* Is the server told to end? */
bool nbd_server_is_ending(void);
bool nbd_server_is_readonly(void);

/* A connection enters, before its first thread runs, and leaves, in its last. */
void nbd_server_enter(struct nbd_conn *c);
void nbd_server_leave(struct nbd_conn *c);

/* At most one line a second of what clients bring about; see serve/say.h. */
void nbd_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
