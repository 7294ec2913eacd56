/* SPDX-License-Identifier: MIT */
/*
 * nbd/proto.h - the numbers of the NBD protocol (fixed newstyle, with structured
 * replies and base:allocation), as its specification has them.  All are sent big-endian.
 */
#ifndef ZD_NBD_PROTO_H
#define ZD_NBD_PROTO_H

#include <stdint.h>

#define NBD_MAGIC		UINT64_C(0x4e42444d41474943)	/* "NBDMAGIC" */
#define NBD_OPTS_MAGIC		UINT64_C(0x49484156454f5054)	/* "IHAVEOPT" */
#define NBD_REP_MAGIC		UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC	0x25609513u
#define NBD_SIMPLE_MAGIC	0x67446698u
#define NBD_STRUCTURED_MAGIC	0x668e33efu

#define NBD_MAX_REQUEST		(32u << 20)	/* bytes of data, the portable limit */

/* of the greeting, the server's and the client's */
#define NBD_FLAG_FIXED		(1u << 0)
#define NBD_FLAG_NO_ZEROES	(1u << 1)

enum nbd_opt {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT,
	NBD_OPT_LIST,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO,
	NBD_OPT_GO,
	NBD_OPT_STRUCTURED_REPLY,
	NBD_OPT_LIST_META_CONTEXT,
	NBD_OPT_SET_META_CONTEXT,
};

#define NBD_REP_ACK		1u
#define NBD_REP_SERVER		2u
#define NBD_REP_INFO		3u
#define NBD_REP_META_CONTEXT	4u
#define NBD_REP_ERR_UNSUP	0x80000001u
#define NBD_REP_ERR_INVALID	0x80000003u
#define NBD_REP_ERR_UNKNOWN	0x80000006u
#define NBD_REP_ERR_TOO_BIG	0x80000009u

#define NBD_INFO_EXPORT		0
#define NBD_INFO_BLOCK_SIZE	3

/* of the export */
#define NBD_FLAG_HAS_FLAGS	(1u << 0)
#define NBD_FLAG_READ_ONLY	(1u << 1)
#define NBD_FLAG_SEND_FLUSH	(1u << 2)
#define NBD_FLAG_SEND_FUA	(1u << 3)
#define NBD_FLAG_SEND_TRIM	(1u << 5)
#define NBD_FLAG_SEND_ZEROES	(1u << 6)
#define NBD_FLAG_SEND_DF	(1u << 7)
#define NBD_FLAG_MULTI_CONN	(1u << 8)
#define NBD_FLAG_SEND_FAST_ZERO	(1u << 11)

enum nbd_cmd {
	NBD_CMD_READ,
	NBD_CMD_WRITE,
	NBD_CMD_DISC,
	NBD_CMD_FLUSH,
	NBD_CMD_TRIM,
	NBD_CMD_CACHE,
	NBD_CMD_WRITE_ZEROES,
	NBD_CMD_BLOCK_STATUS,
};

#define NBD_CMD_FLAG_FUA	(1u << 0)
#define NBD_CMD_FLAG_NO_HOLE	(1u << 1)
#define NBD_CMD_FLAG_DF		(1u << 2)
#define NBD_CMD_FLAG_REQ_ONE	(1u << 3)
#define NBD_CMD_FLAG_FAST_ZERO	(1u << 4)

#define NBD_CHUNK_DONE		1u
#define NBD_CHUNK_OFFSET_DATA	1u
#define NBD_CHUNK_BLOCK_STATUS	5u
#define NBD_CHUNK_ERROR		32769u

/* base:allocation: its id on this server, and its states */
#define NBD_CONTEXT_ALLOCATION	1u
#define NBD_STATE_HOLE		1u
#define NBD_STATE_ZERO		2u

struct nbd_option {
	uint64_t magic;
	uint32_t option, len;
} __attribute__((packed));

struct nbd_option_reply {
	uint64_t magic;
	uint32_t option, type, len;
} __attribute__((packed));

struct nbd_wire_request {
	uint32_t magic;
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint32_t len;
} __attribute__((packed));

struct nbd_simple {
	uint32_t magic, error;
	uint64_t cookie;
} __attribute__((packed));

struct nbd_structured {
	uint32_t magic;
	uint16_t flags, type;
	uint64_t cookie;
	uint32_t len;
} __attribute__((packed));

#endif
