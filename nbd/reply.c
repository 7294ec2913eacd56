/* SPDX-License-Identifier: MIT */
/* Replies to requests; see reply.h. */
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <sys/uio.h>

#include "nbd/proto.h"
#include "nbd/reply.h"
#include "nbd/stream.h"

/* The protocol's error for @ret. */
static uint32_t error_of(int ret)
{
	static const int known[] = { EPERM,  EIO,	ENOMEM,	    EINVAL,
				     ENOSPC, EOVERFLOW, EOPNOTSUPP, ESHUTDOWN };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i] == -ret)
			return -ret;
	switch (-ret) {
	case 0:
		return 0;
	case EROFS:
		return EPERM;
	case EDQUOT:
	case EFBIG:
		return ENOSPC;
	default:
		return EIO;
	}
}

void nbd_reply(struct nbd_stream *s, uint64_t cookie, int ret, void *data, uint32_t len)
{
	struct nbd_simple head = {
		htobe32(NBD_SIMPLE_MAGIC),
		htobe32(error_of(ret)),
		cookie,
	};
	struct iovec iov[] = { { &head, sizeof(head) }, { data, len } };

	nbd_send(s, iov, len ? 2 : 1);
}

/* One chunk: what iov[1] and on have, after its header, which goes to iov[0]. */
static void send_chunk(struct nbd_stream *s, uint64_t cookie, uint16_t type, struct iovec *iov,
		       unsigned int nr)
{
	struct nbd_structured head = {
		htobe32(NBD_STRUCTURED_MAGIC), htobe16(NBD_CHUNK_DONE), htobe16(type), cookie, 0,
	};
	uint32_t len = 0;

	for (unsigned int i = 1; i < nr; i++)
		len += iov[i].iov_len;
	head.len = htobe32(len);
	iov[0] = (struct iovec){ &head, sizeof(head) };
	nbd_send(s, iov, nr);
}

void nbd_reply_error(struct nbd_stream *s, uint64_t cookie, int ret)
{
	struct {
		uint32_t error;
		uint16_t text_len;
	} __attribute__((packed)) e = { htobe32(error_of(ret)), 0 };
	struct iovec iov[2] = { { 0 }, { &e, sizeof(e) } };

	send_chunk(s, cookie, NBD_CHUNK_ERROR, iov, 2);
}

void nbd_reply_data(struct nbd_stream *s, uint64_t cookie, uint64_t offset, void *data,
		    uint32_t len)
{
	uint64_t from = htobe64(offset);
	struct iovec iov[3] = { { 0 }, { &from, sizeof(from) }, { data, len } };

	send_chunk(s, cookie, NBD_CHUNK_OFFSET_DATA, iov, 3);
}

void nbd_reply_extents(struct nbd_stream *s, uint64_t cookie, struct nbd_extent *extents,
		       unsigned int nr)
{
	uint32_t context = htobe32(NBD_CONTEXT_ALLOCATION);
	struct iovec iov[3] = {
		{ 0 },
		{ &context, sizeof(context) },
		{ extents, nr * sizeof(*extents) },
	};

	for (unsigned int i = 0; i < nr; i++) {
		extents[i].len = htobe32(extents[i].len);
		extents[i].state = htobe32(extents[i].state);
	}
	send_chunk(s, cookie, NBD_CHUNK_BLOCK_STATUS, iov, 3);
}
