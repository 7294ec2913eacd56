/* SPDX-License-Identifier: MIT */
/*
 * nbd/request.c - requests: received, done on the region, answered.
 *
 * Copies: a read is one copy, from the mapping into the request's buffer, which is sent;
 * a write one the other way.  The answer begins with whether the read went well, so the
 * mapping itself can't be sent: its media may fail in the middle.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zonedev.h>

#include "nbd/proto.h"
#include "nbd/reply.h"
#include "nbd/request.h"
#include "nbd/session.h"
#include "serve/region.h"
#include "serve/say.h"

#define QUICK_BYTES	(256u << 10)	/* copied in the time of a wake-up or two */
#define MAX_EXTENTS	4096		/* in one answer; the client asks for the rest */
#define SKIP_MOST	(2 * NBD_MAX_REQUEST)

/* --- receiving --- */

static bool has_data(const struct nbd_request *r)
{
	return r->type == NBD_CMD_READ || r->type == NBD_CMD_WRITE;
}

size_t nbd_request_bytes(const struct nbd_request *r)
{
	return has_data(r) && r->len <= NBD_MAX_REQUEST ? r->len : 0;
}

bool nbd_request_is_quick(const struct nbd_request *r)
{
	return has_data(r) && !(r->flags & NBD_CMD_FLAG_FUA) && r->len <= QUICK_BYTES;
}

/* Receives data that there is no buffer for. */
static bool skip(struct nbd_stream *s, uint32_t len)
{
	char buf[8192];
	uint32_t n;

	if (len > SKIP_MOST)
		return false;
	for (; len; len -= n) {
		n = len < sizeof(buf) ? len : sizeof(buf);
		if (!nbd_recv(s, buf, n))
			return false;
	}
	return true;
}

bool nbd_request_recv(struct nbd_session *s, struct nbd_request *r)
{
	struct nbd_wire_request w;

	/* Requests that a client left behind when it went are not done. */
	if (nbd_stream_is_broken(&s->stream) || !nbd_recv(&s->stream, &w, sizeof(w)) ||
	    w.magic != htobe32(NBD_REQUEST_MAGIC))
		return false;
	*r = (struct nbd_request){
		.flags = be16toh(w.flags), .type = be16toh(w.type), .cookie = w.cookie,
		.offset = be64toh(w.offset), .len = be32toh(w.len),
	};
	return r->type != NBD_CMD_DISC;
}

bool nbd_request_recv_data(struct nbd_session *s, struct nbd_request *r)
{
	size_t bytes = nbd_request_bytes(r);

	/* Without memory for the buffer the request is answered with ENOMEM. */
	r->buf = bytes ? malloc(bytes) : NULL;
	if (r->type != NBD_CMD_WRITE ||
	    (r->buf ? nbd_recv(&s->stream, r->buf, r->len) : skip(&s->stream, r->len)))
		return true;
	free(r->buf);
	r->buf = NULL;
	return false;
}

/* --- doing --- */

static uint16_t known_flags(const struct nbd_session *s, uint16_t type)
{
	switch (type) {
	case NBD_CMD_READ:
		return NBD_CMD_FLAG_FUA | (s->structured ? NBD_CMD_FLAG_DF : 0);
	case NBD_CMD_WRITE_ZEROES:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
	default:
		return NBD_CMD_FLAG_FUA;
	}
}

/* 0 or -errno: is it a request that may be done? */
static int check(const struct nbd_session *s, const struct nbd_request *r)
{
	bool writes = r->type == NBD_CMD_WRITE || r->type == NBD_CMD_TRIM ||
		      r->type == NBD_CMD_WRITE_ZEROES;

	if (r->flags & ~known_flags(s, r->type))
		return -EINVAL;
	if (r->type == NBD_CMD_FLUSH)
		return r->offset || r->len ? -EINVAL : 0;
	if (!writes && r->type != NBD_CMD_READ && r->type != NBD_CMD_BLOCK_STATUS)
		return -EINVAL;
	if (writes && region_is_readonly())
		return -EPERM;
	if (r->type == NBD_CMD_BLOCK_STATUS && !s->allocation)
		return -EINVAL;
	if (!r->len)
		return -EINVAL;
	if (r->offset > region_bytes() || r->len > region_bytes() - r->offset)
		return r->type == NBD_CMD_WRITE || r->type == NBD_CMD_WRITE_ZEROES ? -ENOSPC :
										     -EINVAL;
	if (has_data(r) && r->len > NBD_MAX_REQUEST)
		return -EINVAL;
	return has_data(r) && !r->buf ? -ENOMEM : 0;
}

static unsigned int fua(const struct nbd_request *r)
{
	return r->flags & NBD_CMD_FLAG_FUA ? ZD_PMEM_FUA : 0;
}

static int zero_part(const struct nbd_request *r, uint64_t from, uint64_t to)
{
	static const char zeroes[ZD_SECTOR_SIZE];

	return from < to ? region_rw(ZD_PMEM_WRITE, fua(r), from, to - from, (void *)zeroes) : 0;
}

/* A zeroing is fast where it frees storage instead of filling it. */
static int zero(const struct nbd_request *r)
{
	bool may_trim = !(r->flags & NBD_CMD_FLAG_NO_HOLE);
	uint64_t end = r->offset + r->len;
	uint64_t first = (r->offset + ZD_SECTOR_SIZE - 1) / ZD_SECTOR_SIZE * ZD_SECTOR_SIZE;
	uint64_t last = end / ZD_SECTOR_SIZE * ZD_SECTOR_SIZE;
	int ret;

	if (r->flags & NBD_CMD_FLAG_FAST_ZERO && !(may_trim && region_info()->has_holes))
		return -EOPNOTSUPP;
	if (first > last)		/* within one sector */
		return zero_part(r, r->offset, end);
	ret = zero_part(r, r->offset, first);
	if (!ret && first < last)
		ret = region_rw(ZD_PMEM_WRITE_ZEROES, fua(r) | (may_trim ? 0 : ZD_PMEM_NOUNMAP),
				first, last - first, NULL);
	return ret ? ret : zero_part(r, last, end);
}

/* What is where in the request's range: runs of one state, from its beginning. */
static int extents(const struct nbd_request *r, struct nbd_extent *list, unsigned int *nr)
{
	uint64_t at = r->offset, end = r->offset + r->len, from;
	unsigned int what, state;
	int64_t len;

	for (*nr = 0; at < end && *nr < MAX_EXTENTS; at += len) {
		from = at / ZD_SECTOR_SIZE * ZD_SECTOR_SIZE;
		len = region_extent(from, end - from, &what);
		if (len < 0)
			return len;
		len -= at - from;
		if ((uint64_t)len > end - at)
			len = end - at;
		state = (what & ZD_PMEM_EXTENT_HOLE ? NBD_STATE_HOLE : 0) |
			(what & ZD_PMEM_EXTENT_ZERO ? NBD_STATE_ZERO : 0);
		if (*nr && list[*nr - 1].state == state) {
			list[*nr - 1].len += len;
			continue;
		}
		if (*nr && r->flags & NBD_CMD_FLAG_REQ_ONE)
			break;
		list[(*nr)++] = (struct nbd_extent){ len, state };
	}
	return 0;
}

static int transfer(const struct nbd_request *r)
{
	switch (r->type) {
	case NBD_CMD_READ:
		return region_rw(ZD_PMEM_READ, 0, r->offset, r->len, r->buf);
	case NBD_CMD_WRITE:
		return region_rw(ZD_PMEM_WRITE, fua(r), r->offset, r->len, r->buf);
	case NBD_CMD_FLUSH:
		return region_rw(ZD_PMEM_FLUSH, 0, 0, 0, NULL);
	case NBD_CMD_TRIM:
		return region_rw(ZD_PMEM_DISCARD, fua(r), r->offset, r->len, NULL);
	default:
		return zero(r);
	}
}

/* --- answering --- */

static const char *name_of(uint16_t type)
{
	static const char *const names[] = { "read", "write", "",     "flush",
					     "trim", "",      "zero", "block status" };

	return type < sizeof(names) / sizeof(names[0]) ? names[type] : "";
}

/* The user has been told that the region is away; the client learns from the reply what it
 * did wrong. */
static void complain(const struct nbd_request *r, int ret)
{
	if (ret == -ESHUTDOWN || ret == -EOPNOTSUPP)
		return;
	server_complain("%s of %u bytes at %#llx: %s", name_of(r->type), r->len,
			(unsigned long long)r->offset, strerrordesc_np(-ret));
}

/* The client's question what is where. */
static int block_status(struct nbd_session *s, const struct nbd_request *r)
{
	struct nbd_extent *list = malloc(MAX_EXTENTS * sizeof(*list));
	unsigned int nr;
	int ret;

	if (!list)
		return -ENOMEM;
	ret = extents(r, list, &nr);
	if (!ret)
		nbd_reply_extents(&s->stream, r->cookie, list, nr);
	free(list);
	return ret;
}

static void answer(struct nbd_session *s, const struct nbd_request *r, int ret)
{
	bool has_chunks = s->structured &&
			  (r->type == NBD_CMD_READ || r->type == NBD_CMD_BLOCK_STATUS);

	if (!has_chunks)
		nbd_reply(&s->stream, r->cookie, ret, r->buf,
			  !ret && r->type == NBD_CMD_READ ? r->len : 0);
	else if (ret)
		nbd_reply_error(&s->stream, r->cookie, ret);
	else
		nbd_reply_data(&s->stream, r->cookie, r->offset, r->buf, r->len);
}

/* 0 or -errno: may the request be done? */
static int may_do(const struct nbd_session *s, const struct nbd_request *r, bool ending)
{
	if (ending)
		return -ESHUTDOWN;
	/* A reply that can't be sent needs no data. */
	if (r->type == NBD_CMD_READ && nbd_stream_is_broken(&s->stream))
		return -EIO;
	return check(s, r);
}

void nbd_request_do(struct nbd_session *s, struct nbd_request *r, bool ending)
{
	int ret = may_do(s, r, ending);

	if (!ret) {
		ret = r->type == NBD_CMD_BLOCK_STATUS ? block_status(s, r) : transfer(r);
		if (ret)
			complain(r, ret);
		else if (r->type == NBD_CMD_BLOCK_STATUS)
			goto out;	/* answered */
	}
	answer(s, r, ret);
out:
	free(r->buf);
	r->buf = NULL;
}
