/* SPDX-License-Identifier: MIT */
/*
 * nbd/server.h - the region of serve/region.h as a network block device.
 *
 * The server of `zonedev serve`.  Its promise is what nbdkit 1.32, in which the same
 * region runs as a plugin, can't give: a client can end its own connection only,
 * whatever the client sends, however it leaves, and whether it reads or not.
 */
#ifndef ZD_NBD_SERVER_H
#define ZD_NBD_SERVER_H

#define NBD_DEFAULT_CLIENTS	128
#define NBD_MOST_CLIENTS	4096

/*
 * nbd_server_init - before any thread: signals that end the server are blocked, and the
 * limit on descriptors is raised for its clients.  0 or -errno.
 *
 * @max_clients: connections at a time; with so many, one that hasn't shaken hands for a
 * second makes room for a new one, and without such a connection the new one is turned away.
 */
int nbd_server_init(unsigned int max_clients);

/*
 * nbd_server_run - serve the clients that connect to @listener, a listening socket that
 * doesn't block, until a signal ends the server; then until every client has its replies, or 5
 * seconds have passed.  The region is open, and server_say_by() was called.  @stop_listening:
 * called, once, just before the listener is closed.
 * Returns when no connection is left.
 */
void nbd_server_run(int listener, void (*stop_listening)(void));

#endif
