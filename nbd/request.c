/* SPDX-License-Identifier: MIT */
/*
 * nbd/request.c - requests: read, done on the region, answered.
 *
 * Copies: a read is one copy, from the mapping into the request's buffer, which is sent;
 * a write one the other way.  The answer begins with whether it went well, so the
 * mapping itself can't be sent: its media may fail in the middle.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <zonedev.h>

#include "nbd/conn.h"
#include "nbd/proto.h"
#include "nbd/server.h"
#include "serve/region.h"

#define QUICK_BYTES	(256u << 10)	/* copied in the time of a wake-up or two */
#define MAX_EXTENTS	4096		/* in one answer; the client asks for the rest */
#define SKIP_MOST	(2 * NBD_MAX_REQUEST)

/* --- reading --- */

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

/* Counts the request in, when there is room for its buffer.  One that is larger than the
 * room has it alone. */
static void wait_for_room(struct nbd_conn *c, size_t bytes)
{
	pthread_mutex_lock(&c->lock);
	while (bytes && c->bytes && c->bytes + bytes > NBD_ROOM)
		pthread_cond_wait(&c->room, &c->lock);
	c->in_flight++;
	c->bytes += bytes;
	pthread_mutex_unlock(&c->lock);
}

/* Data that there is no buffer for. */
static bool skip(struct nbd_conn *c, uint32_t len)
{
	char buf[8192];
	uint32_t n;

	if (len > SKIP_MOST)
		return false;
	for (; len; len -= n) {
		n = len < sizeof(buf) ? len : sizeof(buf);
		if (!nbd_recv(c, buf, n))
			return false;
	}
	return true;
}

static enum nbd_next give_up(struct nbd_conn *c, struct nbd_request *r)
{
	pthread_mutex_lock(&c->lock);
	c->in_flight--;
	c->bytes -= nbd_request_bytes(r);
	pthread_mutex_unlock(&c->lock);
	free(r->buf);
	return NBD_OVER;
}

enum nbd_next nbd_request_read(struct nbd_conn *c, struct nbd_request *r)
{
	struct nbd_wire_request w;
	size_t bytes;

	/* what its client left behind, having gone, isn't done for nobody */
	if (__atomic_load_n(&c->broken, __ATOMIC_RELAXED) || !nbd_recv(c, &w, sizeof(w)) ||
	    w.magic != htobe32(NBD_REQUEST_MAGIC))
		return NBD_OVER;
	*r = (struct nbd_request){
		.flags = be16toh(w.flags), .type = be16toh(w.type), .cookie = w.cookie,
		.offset = be64toh(w.offset), .len = be32toh(w.len),
	};
	if (r->type == NBD_CMD_DISC)
		return NBD_OVER;
	bytes = nbd_request_bytes(r);
	wait_for_room(c, bytes);
	/* without memory it is answered with that */
	r->buf = bytes ? malloc(bytes) : NULL;
	if (r->type == NBD_CMD_WRITE &&
	    !(r->buf ? nbd_recv(c, r->buf, r->len) : skip(c, r->len)))
		return give_up(c, r);
	return NBD_DO;
}

/* --- doing --- */

static uint16_t known_flags(const struct nbd_conn *c, uint16_t type)
{
	switch (type) {
	case NBD_CMD_READ:
		return NBD_CMD_FLAG_FUA | (c->structured ? NBD_CMD_FLAG_DF : 0);
	case NBD_CMD_WRITE_ZEROES:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
	default:
		return NBD_CMD_FLAG_FUA;
	}
}

/* 0 or -errno: may it be done? */
static int check(const struct nbd_conn *c, const struct nbd_request *r)
{
	bool writes = r->type == NBD_CMD_WRITE || r->type == NBD_CMD_TRIM ||
		      r->type == NBD_CMD_WRITE_ZEROES;

	if (r->flags & ~known_flags(c, r->type))
		return -EINVAL;
	if (r->type == NBD_CMD_FLUSH)
		return r->offset || r->len ? -EINVAL : 0;
	if (!writes && r->type != NBD_CMD_READ && r->type != NBD_CMD_BLOCK_STATUS)
		return -EINVAL;
	if (writes && nbd_server_is_readonly())
		return -EPERM;
	if (r->type == NBD_CMD_BLOCK_STATUS && !c->allocation)
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

	return from < to ? region_rw(ZD_PMEM_WRITE, fua(r), from, to - from,
				     (void *)zeroes) : 0;
}

/* Fast is what frees storage instead of filling it. */
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
		ret = region_rw(ZD_PMEM_WRITE_ZEROES,
				fua(r) | (may_trim ? 0 : ZD_PMEM_NOUNMAP), first, last - first,
				NULL);
	return ret ? ret : zero_part(r, last, end);
}

/* The answer's blocks, from the third word on; the first is for the context. */
static int extents(const struct nbd_request *r, uint32_t *words, unsigned int *nr)
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
		if (*nr && words[2 * *nr] == htobe32(state)) {
			words[2 * *nr - 1] = htobe32(be32toh(words[2 * *nr - 1]) + len);
			continue;
		}
		if (*nr && r->flags & NBD_CMD_FLAG_REQ_ONE)
			break;
		words[1 + 2 * *nr] = htobe32(len);
		words[2 + 2 * *nr] = htobe32(state);
		++*nr;
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

static uint32_t nbd_error(int ret)
{
	static const int known[] = { EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, EOPNOTSUPP,
				     ESHUTDOWN };

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

static void answer_simply(struct nbd_conn *c, const struct nbd_request *r, int ret)
{
	struct nbd_simple s = {
		htobe32(NBD_SIMPLE_MAGIC), htobe32(nbd_error(ret)), r->cookie,
	};
	struct iovec iov[] = { { &s, sizeof(s) }, { r->buf, r->len } };

	nbd_send(c, iov, !ret && r->type == NBD_CMD_READ ? 2 : 1);
}

/* One chunk: @data after its header. */
static void answer_chunk(struct nbd_conn *c, const struct nbd_request *r, uint16_t type,
			 struct iovec *iov, unsigned int nr)
{
	struct nbd_structured s = {
		htobe32(NBD_STRUCTURED_MAGIC), htobe16(NBD_CHUNK_DONE), htobe16(type),
		r->cookie, 0,
	};
	uint32_t len = 0;

	for (unsigned int i = 1; i < nr; i++)
		len += iov[i].iov_len;
	s.len = htobe32(len);
	iov[0] = (struct iovec){ &s, sizeof(s) };
	nbd_send(c, iov, nr);
}

static void answer_error(struct nbd_conn *c, const struct nbd_request *r, int ret)
{
	struct {
		uint32_t error;
		uint16_t text_len;
	} __attribute__((packed)) e = { htobe32(nbd_error(ret)), 0 };
	struct iovec iov[2] = { { 0 }, { &e, sizeof(e) } };

	answer_chunk(c, r, NBD_CHUNK_ERROR, iov, 2);
}

static void answer_data(struct nbd_conn *c, const struct nbd_request *r)
{
	uint64_t offset = htobe64(r->offset);
	struct iovec iov[3] = { { 0 }, { &offset, sizeof(offset) }, { r->buf, r->len } };

	answer_chunk(c, r, NBD_CHUNK_OFFSET_DATA, iov, 3);
}

static int block_status(struct nbd_conn *c, const struct nbd_request *r)
{
	uint32_t *words = malloc((1 + 2 * MAX_EXTENTS) * sizeof(*words));
	struct iovec iov[2] = { { 0 }, { words, 0 } };
	unsigned int nr;
	int ret;

	if (!words)
		return -ENOMEM;
	words[0] = htobe32(1);		/* base:allocation, see handshake.c */
	ret = extents(r, words, &nr);
	iov[1].iov_len = (1 + 2 * nr) * sizeof(*words);
	if (!ret)
		answer_chunk(c, r, NBD_CHUNK_BLOCK_STATUS, iov, 2);
	free(words);
	return ret;
}

static const char *name_of(uint16_t type)
{
	static const char *const names[] = { "read", "write", "", "flush", "trim", "",
					     "zero", "block status" };

	return type < sizeof(names) / sizeof(names[0]) ? names[type] : "";
}

/* That the region is away has been said; what the client did wrong it is told itself. */
static void complain(const struct nbd_request *r, int ret)
{
	if (ret == -ESHUTDOWN || ret == -EOPNOTSUPP)
		return;
	nbd_complain("%s of %u bytes at %#llx: %s", name_of(r->type), r->len,
		     (unsigned long long)r->offset, strerrordesc_np(-ret));
}

void nbd_request_do(struct nbd_conn *c, struct nbd_request *r)
{
	bool chunks = c->structured &&
		      (r->type == NBD_CMD_READ || r->type == NBD_CMD_BLOCK_STATUS);
	bool unheard = r->type == NBD_CMD_READ && __atomic_load_n(&c->broken, __ATOMIC_RELAXED);
	int ret = nbd_server_is_ending() ? -ESHUTDOWN : unheard ? -EIO : check(c, r);

	if (!ret) {
		ret = r->type == NBD_CMD_BLOCK_STATUS ? block_status(c, r) : transfer(r);
		if (ret)
			complain(r, ret);
		else if (r->type == NBD_CMD_BLOCK_STATUS)
			goto out;
	}
	if (ret && chunks)
		answer_error(c, r, ret);
	else if (chunks)
		answer_data(c, r);
	else
		answer_simply(c, r, ret);
out:
	free(r->buf);
	r->buf = NULL;
}
