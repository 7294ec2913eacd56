/* SPDX-License-Identifier: MIT */
/*
 * nbd/stream.h - the bytes from and to one client.
 *
 * One thread receives at a time, which the connection sees to (conn.h).  Any thread sends:
 * write_lock is held over sending, one reply at a time, and is the last in the order of locks.
 */
#ifndef ZD_NBD_STREAM_H
#define ZD_NBD_STREAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct iovec;

struct nbd_stream {
	int fd;				/* constant; closed with the stream */
	/* the receiving thread's */
	char in[16384];
	uint32_t in_at, in_end;		/* atomic: others look whether there is something */

	pthread_mutex_t write_lock;
	bool broken;			/* atomic: nothing more can be sent */
};

/* nbd_stream_init - takes @fd over.  nbd_stream_destroy - closes it: no thread uses it. */
void nbd_stream_init(struct nbd_stream *s, int fd);
void nbd_stream_destroy(struct nbd_stream *s);

/* nbd_recv - exactly @len bytes from the client; false: it is gone.  The receiving thread;
 * blocks until the client has sent them. */
bool nbd_recv(struct nbd_stream *s, void *buf, size_t len);

/* nbd_send - all of @iov, one reply; false: it can't be sent, and the stream is broken.  Any
 * thread; blocks until the client has read enough. */
bool nbd_send(struct nbd_stream *s, struct iovec *iov, unsigned int nr);

/* Has sending failed?  Any thread. */
bool nbd_stream_is_broken(const struct nbd_stream *s);

/* Has the client sent something that wasn't received yet?  Any thread that the stream can't
 * vanish under. */
bool nbd_stream_has_input(const struct nbd_stream *s);

#endif
