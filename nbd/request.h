/* SPDX-License-Identifier: MIT */
/*
 * nbd/request.h - a client's requests: received, done on the region, answered.
 *
 * A request that can't be done is received whole all the same, and answered with the reason
 * when its turn has come.
 */
#ifndef ZD_NBD_REQUEST_H
#define ZD_NBD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nbd_session;

/* @buf: of READ and WRITE; the request's own. */
struct nbd_request {
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint32_t len;
	char *buf;
};

/*
 * nbd_request_recv - the next request, without its data.  nbd_request_recv_data - its buffer,
 * and the data of a WRITE.
 * Both: the receiving thread, which waits for the client.  False: there are no more requests,
 * and @r holds nothing.
 */
bool nbd_request_recv(struct nbd_session *s, struct nbd_request *r);
bool nbd_request_recv_data(struct nbd_session *s, struct nbd_request *r);

/* How many bytes the request's buffer has while the request is in flight. */
size_t nbd_request_bytes(const struct nbd_request *r);

/* May later requests wait for this one?  If not, another thread receives them. */
bool nbd_request_is_quick(const struct nbd_request *r);

/* nbd_request_do - does the request, answers it, and frees its buffer.  @ending: the server is
 * told to end, and the answer is ESHUTDOWN.  Any number of threads; blocks on the media and on
 * the client. */
void nbd_request_do(struct nbd_session *s, struct nbd_request *r, bool ending);

#endif
