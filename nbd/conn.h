/* SPDX-License-Identifier: MIT */
/*
 * nbd/conn.h - one client's connection.
 *
 * Threads.  A connection begins with one thread, which shakes hands.  From then on one
 * of its threads, the reader, takes a request from the socket; what takes long, or has
 * another request waiting behind it, the thread does after it has handed the reading to
 * another thread of the connection, which is started if none is idle (16 at most).  So a
 * client that has one request at a time costs one thread and no wake-up, a flush doesn't
 * stop the reads behind it, and an idle client costs one sleeping thread.
 *
 * What a client can take.  Nothing here is shared with other connections but the
 * region: a client that doesn't read its replies, sends half a request or asks for more
 * than fits in NBD_ROOM keeps only its own threads waiting, and its own memory.
 *
 * The end.  Whichever thread finds the connection broken shuts the socket down, which
 * wakes the connection's other threads; the descriptor is closed by the last of them.
 * So no thread can meet another connection's socket under an old number, and a reply
 * that can't be sent is just not sent.
 *
 * Locks, in this order: nbd_server's; conn->lock (all of the struct that has no other
 * note); conn->write_lock (held over sending: one reply at a time).
 */
#ifndef ZD_NBD_CONN_H
#define ZD_NBD_CONN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <urcu/list.h>

#define NBD_MAX_REQUEST	(32u << 20)	/* the protocol's portable limit */
#define NBD_ROOM	(8u << 20)	/* bytes of several requests in flight; one may have more */
#define NBD_THREADS	16		/* of a connection */
#define NBD_HANDSHAKE_MS 10000		/* so long may a handshake take */

struct nbd_conn {
	int fd;				/* constant; closed by the last thread */
	struct cds_list_head node;	/* the server's lock */
	int64_t since;			/* constant: when it was accepted, in ms */
	bool ready;			/* atomic: hands are shaken */
	/* the handshake's; constant afterwards */
	bool structured, allocation;
	/* the reader's */
	char in[16384];
	uint32_t in_at, in_end;		/* atomic: others look whether there is something */

	pthread_mutex_t lock;
	pthread_cond_t turn;		/* nobody reads; or it is over */
	pthread_cond_t room;		/* a request was done */
	bool reading, over;
	unsigned int threads, idle;
	unsigned int in_flight;		/* requests */
	size_t bytes;			/* of their buffers */

	pthread_mutex_t write_lock;
	bool broken;			/* atomic: nothing more can be sent */
};

/* A request that was read.  @buf: of READ and WRITE; the request's own. */
struct nbd_request {
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint32_t len;
	char *buf;
};

/* --- conn.c --- */

/* Begin a connection: takes @fd over.  0 or -errno; then @fd is closed.  The connection
 * is one of the server's (server.h) until it has ended by itself. */
int nbd_conn_start(int fd);

/* Exactly @len bytes from the client; false: it is gone.  The reader. */
bool nbd_recv(struct nbd_conn *c, void *buf, size_t len);

/* All of @iov, one reply; false: it can't be sent, and the connection is over. */
struct iovec;
bool nbd_send(struct nbd_conn *c, struct iovec *iov, unsigned int nr);

/* Has the client sent something that wasn't read yet?  Any thread that the connection
 * can't vanish under. */
bool nbd_conn_has_input(struct nbd_conn *c);

/* --- handshake.c --- */

/* False: the client has no connection to go on with. */
bool nbd_handshake(struct nbd_conn *c);

/* --- request.c --- */

enum nbd_next { NBD_DO, NBD_OVER };

/*
 * nbd_request_read - the next request, with the data of a WRITE.  The reader; waits for
 * the client, and for room for the request's buffer, which it takes.  What can't be done
 * is answered when it is done.  NBD_OVER: there are no more.
 */
enum nbd_next nbd_request_read(struct nbd_conn *c, struct nbd_request *r);

/* May others wait for it?  If not, the reading goes to another thread first. */
bool nbd_request_is_quick(const struct nbd_request *r);

/* Do it, answer it, and free its buffer.  Any number of threads. */
void nbd_request_do(struct nbd_conn *c, struct nbd_request *r);

/* How much memory it takes while it is in flight. */
size_t nbd_request_bytes(const struct nbd_request *r);

#endif
