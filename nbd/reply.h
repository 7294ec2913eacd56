/* SPDX-License-Identifier: MIT */
/*
 * nbd/reply.h - the replies to requests, as they stand in the protocol.
 *
 * @cookie: the request's, as it was received; @ret: 0 or -errno.  Any thread; blocks until the
 * client has read enough.  A reply that can't be sent breaks the stream, which its connection
 * notices.
 */
#ifndef ZD_NBD_REPLY_H
#define ZD_NBD_REPLY_H

#include <stdint.h>

struct nbd_stream;

/* One run of bytes with one state (NBD_STATE_). */
struct nbd_extent {
	uint32_t len, state;
};

/* A simple reply: @ret, and the @len bytes at @data. */
void nbd_reply(struct nbd_stream *s, uint64_t cookie, int ret, void *data, uint32_t len);

/* Structured replies, each of one chunk. */
void nbd_reply_error(struct nbd_stream *s, uint64_t cookie, int ret);
void nbd_reply_data(struct nbd_stream *s, uint64_t cookie, uint64_t offset, void *data,
		    uint32_t len);

/* The extents of base:allocation.  They are turned into the protocol's byte order in place. */
void nbd_reply_extents(struct nbd_stream *s, uint64_t cookie, struct nbd_extent *extents,
		       unsigned int nr);

#endif
