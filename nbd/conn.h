/* SPDX-License-Identifier: MIT */
/*
 * nbd/conn.h - one client's connection.
 *
 * Threads.  A connection begins with one thread, which shakes hands.  From then on one
 * of the connection's threads, the reader, receives a request; a request that takes long, or
 * has another waiting behind it, the reader does after it has handed the reading to another
 * thread of the connection, which is started if none is idle (16 at most).  So a client that
 * has one request at a time costs one thread and no wake-up, a flush doesn't stop the reads
 * behind it, and an idle client costs one sleeping thread.
 *
 * What a client can take.  Connections share nothing but the region: a client that doesn't
 * read its replies, sends half a request or asks for more than fits in NBD_ROOM keeps only its
 * own threads waiting, and its own memory.
 *
 * The end.  Whichever thread finds the connection broken shuts the socket down, which
 * wakes the connection's other threads; the last of them closes the descriptor.  So no thread
 * can meet another connection's socket under an old number, and a reply that can't be sent is
 * just not sent.
 *
 * Locks, in this order: the server's; conn->lock (all of the struct that has no other note);
 * the stream's write_lock.
 */
#ifndef ZD_NBD_CONN_H
#define ZD_NBD_CONN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <urcu/list.h>

#include "nbd/session.h"

#define NBD_ROOM	(8u << 20)	/* bytes of several requests in flight; one may have more */
#define NBD_THREADS	16		/* of a connection */
#define NBD_HANDSHAKE_MS 10000		/* so long may a handshake take */

struct nbd_conn;

/* What a connection asks of its server. */
struct nbd_conn_ops {
	/* A connection enters, before its first thread runs, and leaves, in its last. */
	void (*enter)(struct nbd_conn *c);
	void (*leave)(struct nbd_conn *c);
	/* Is the server told to end?  Any thread. */
	bool (*is_ending)(void);
};

struct nbd_conn {
	const struct nbd_conn_ops *ops;	/* constant */
	struct cds_list_head node;	/* the server's lock */
	int64_t since;			/* constant: when it was accepted, as zd_now_ms() */
	bool ready;			/* atomic: hands are shaken */
	struct nbd_session session;	/* its own notes */

	pthread_mutex_t lock;
	pthread_cond_t turn;		/* no thread reads; or it is over */
	pthread_cond_t room;		/* a request was done */
	bool reading, over;
	unsigned int threads, idle;
	unsigned int in_flight;		/* requests */
	size_t bytes;			/* of their buffers */
};

/* nbd_conn_start - begin a connection: takes @fd over.  0 or -errno; then @fd is closed.  The
 * connection has entered the server until its end, which comes by itself. */
int nbd_conn_start(int fd, const struct nbd_conn_ops *ops);

/* nbd_conn_has_requests - is one in flight, or has the client sent something?  The server,
 * with its lock held, under which the connection can't vanish. */
bool nbd_conn_has_requests(struct nbd_conn *c);

#endif
