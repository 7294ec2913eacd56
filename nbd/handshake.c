/* SPDX-License-Identifier: MIT */
/*
 * nbd/handshake.c - what comes before the requests: the client's options.
 *
 * A client has few options to send and, by server.c, ten seconds.  Anything that isn't the
 * protocol ends the client's connection; so does an option that is longer than any of the
 * protocol's, and nothing has to be skipped here.
 */
#include <endian.h>
#include <string.h>
#include <sys/uio.h>
#include <zonedev.h>

#include "nbd/handshake.h"
#include "nbd/proto.h"
#include "nbd/session.h"
#include "serve/region.h"
#include "serve/say.h"

#define MAX_OPTION	8192		/* two names of 4096 bytes, as the protocol has them */
#define MAX_OPTIONS	64		/* then the client is not on its way to an export */
#define CONTEXT		"base:allocation"

/* What comes after an option: the next one, the requests, or the end of the connection. */
enum step { NEXT, GO, END };

/* An option of the client.  @at: so much of @data was taken. */
struct option {
	uint32_t nr, len;
	char data[MAX_OPTION];
	uint32_t at;
};

/* --- the option's data --- */

static bool take(struct option *o, void *to, uint32_t len)
{
	if (len > o->len - o->at)
		return false;
	if (to)
		memcpy(to, o->data + o->at, len);
	o->at += len;
	return true;
}

static bool take_u16(struct option *o, uint16_t *value)
{
	if (!take(o, value, sizeof(*value)))
		return false;
	*value = be16toh(*value);
	return true;
}

static bool take_u32(struct option *o, uint32_t *value)
{
	if (!take(o, value, sizeof(*value)))
		return false;
	*value = be32toh(*value);
	return true;
}

/* A string; NULL: there is none. */
static const char *take_string(struct option *o, uint32_t *len)
{
	const char *at;

	if (!take_u32(o, len))
		return NULL;
	at = o->data + o->at;
	return take(o, NULL, *len) ? at : NULL;
}

/* --- replies --- */

static enum step reply(struct nbd_session *s, const struct option *o, uint32_t type,
		       const void *data, uint32_t len)
{
	struct nbd_option_reply r = {
		.magic = htobe64(NBD_REP_MAGIC),
		.option = htobe32(o->nr),
		.type = htobe32(type),
		.len = htobe32(len),
	};
	struct iovec iov[] = { { &r, sizeof(r) }, { (void *)data, len } };

	return nbd_send(&s->stream, iov, len ? 2 : 1) ? NEXT : END;
}

static enum step refuse(struct nbd_session *s, const struct option *o, uint32_t why)
{
	return reply(s, o, why, NULL, 0);
}

static uint16_t export_flags(const struct nbd_session *s)
{
	uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			 NBD_FLAG_MULTI_CONN;

	flags |= region_is_readonly() ?
			 NBD_FLAG_READ_ONLY :
			 NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	return s->structured ? flags | NBD_FLAG_SEND_DF : flags;
}

static bool turned_away(void)
{
	if (region_is_live())
		return false;
	server_complain("a client was turned away: the region was removed");
	return true;
}

/* --- options --- */

/* The old way to an export: no reply but the export's size and flags, or the end. */
static enum step export_name(struct nbd_session *s, bool no_zeroes)
{
	struct {
		uint64_t size;
		uint16_t flags;
		char zeroes[124];
	} __attribute__((packed)) e = {
		.size = htobe64(region_bytes()),
		.flags = htobe16(export_flags(s)),
	};
	struct iovec iov = { &e, no_zeroes ? sizeof(e) - sizeof(e.zeroes) : sizeof(e) };

	if (turned_away())
		return END;
	return nbd_send(&s->stream, &iov, 1) ? GO : END;
}

/* There is one export: any name opens it, and it is listed without a name. */
static enum step list(struct nbd_session *s, const struct option *o)
{
	uint32_t no_name = 0;

	if (o->len)
		return refuse(s, o, NBD_REP_ERR_INVALID);
	if (reply(s, o, NBD_REP_SERVER, &no_name, sizeof(no_name)) == END)
		return END;
	return reply(s, o, NBD_REP_ACK, NULL, 0);
}

static enum step send_block_size(struct nbd_session *s, const struct option *o)
{
	struct {
		uint16_t type;
		uint32_t minimum, preferred, maximum;
	} __attribute__((packed)) info = {
		htobe16(NBD_INFO_BLOCK_SIZE),
		htobe32(ZD_SECTOR_SIZE),
		htobe32(ZD_PAGE_SIZE),
		htobe32(NBD_MAX_REQUEST),
	};

	return reply(s, o, NBD_REP_INFO, &info, sizeof(info));
}

static enum step send_export(struct nbd_session *s, const struct option *o)
{
	struct {
		uint16_t type;
		uint64_t size;
		uint16_t flags;
	} __attribute__((packed)) info = {
		htobe16(NBD_INFO_EXPORT),
		htobe64(region_bytes()),
		htobe16(export_flags(s)),
	};

	return reply(s, o, NBD_REP_INFO, &info, sizeof(info));
}

static enum step info_or_go(struct nbd_session *s, struct option *o)
{
	bool wants_block_size = false;
	uint16_t nr, what;
	uint32_t len;

	if (!take_string(o, &len) || !take_u16(o, &nr))
		return refuse(s, o, NBD_REP_ERR_INVALID);
	for (; nr; nr--) {
		if (!take_u16(o, &what))
			return refuse(s, o, NBD_REP_ERR_INVALID);
		wants_block_size |= what == NBD_INFO_BLOCK_SIZE;
	}
	if (o->at != o->len)
		return refuse(s, o, NBD_REP_ERR_INVALID);
	if (turned_away())
		return refuse(s, o, NBD_REP_ERR_UNKNOWN);
	if (send_export(s, o) == END || (wants_block_size && send_block_size(s, o) == END) ||
	    reply(s, o, NBD_REP_ACK, NULL, 0) == END)
		return END;
	return o->nr == NBD_OPT_GO ? GO : NEXT;
}

static enum step structured_reply(struct nbd_session *s, const struct option *o)
{
	if (o->len)
		return refuse(s, o, NBD_REP_ERR_INVALID);
	s->structured = true;
	return reply(s, o, NBD_REP_ACK, NULL, 0);
}

static bool is_context(const char *query, uint32_t len, bool list)
{
	return (len == strlen(CONTEXT) && !memcmp(query, CONTEXT, len)) ||
	       (list && len == strlen("base:") && !memcmp(query, "base:", len));
}

static enum step meta_context(struct nbd_session *s, struct option *o)
{
	struct {
		uint32_t id;
		char name[sizeof(CONTEXT) - 1];
	} __attribute__((packed)) context = { htobe32(NBD_CONTEXT_ALLOCATION), { 0 } };
	bool is_list = o->nr == NBD_OPT_LIST_META_CONTEXT, found;
	const char *query;
	uint32_t len, nr;

	if (!is_list)
		s->allocation = false;	/* also if this option is refused */
	if (!s->structured || !take_string(o, &len) || !take_u32(o, &nr))
		return refuse(s, o, NBD_REP_ERR_INVALID);
	found = is_list && !nr;
	for (; nr; nr--) {
		query = take_string(o, &len);
		if (!query)
			return refuse(s, o, NBD_REP_ERR_INVALID);
		found |= is_context(query, len, is_list);
	}
	if (o->at != o->len)
		return refuse(s, o, NBD_REP_ERR_INVALID);
	if (!is_list)
		s->allocation = found;
	memcpy(context.name, CONTEXT, sizeof(context.name));
	if (found && reply(s, o, NBD_REP_META_CONTEXT, &context, sizeof(context)) == END)
		return END;
	return reply(s, o, NBD_REP_ACK, NULL, 0);
}

static enum step do_option(struct nbd_session *s, struct option *o, bool no_zeroes)
{
	switch (o->nr) {
	case NBD_OPT_EXPORT_NAME:
		return export_name(s, no_zeroes);
	case NBD_OPT_ABORT:
		reply(s, o, NBD_REP_ACK, NULL, 0);
		return END;
	case NBD_OPT_LIST:
		return list(s, o);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return info_or_go(s, o);
	case NBD_OPT_STRUCTURED_REPLY:
		return structured_reply(s, o);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return meta_context(s, o);
	default:
		return refuse(s, o, NBD_REP_ERR_UNSUP);
	}
}

static bool read_option(struct nbd_session *s, struct option *o)
{
	struct nbd_option head;

	if (!nbd_recv(&s->stream, &head, sizeof(head)) || head.magic != htobe64(NBD_OPTS_MAGIC))
		return false;
	o->nr = be32toh(head.option);
	o->len = be32toh(head.len);
	o->at = 0;
	if (o->len > MAX_OPTION) {
		refuse(s, o, NBD_REP_ERR_TOO_BIG);
		return false;
	}
	return nbd_recv(&s->stream, o->data, o->len);
}

static bool greet(struct nbd_session *s, bool *no_zeroes)
{
	struct {
		uint64_t magic, opts_magic;
		uint16_t flags;
	} __attribute__((packed)) hello = {
		htobe64(NBD_MAGIC),
		htobe64(NBD_OPTS_MAGIC),
		htobe16(NBD_FLAG_FIXED | NBD_FLAG_NO_ZEROES),
	};
	struct iovec iov = { &hello, sizeof(hello) };
	uint32_t flags;

	if (!nbd_send(&s->stream, &iov, 1) || !nbd_recv(&s->stream, &flags, sizeof(flags)))
		return false;
	flags = be32toh(flags);
	*no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	return !(flags & ~(NBD_FLAG_FIXED | NBD_FLAG_NO_ZEROES));
}

bool nbd_handshake(struct nbd_session *s)
{
	enum step step = NEXT;
	struct option o;
	bool no_zeroes;

	if (!greet(s, &no_zeroes))
		return false;
	for (int nr = 0; step == NEXT && nr < MAX_OPTIONS; nr++)
		step = read_option(s, &o) ? do_option(s, &o, no_zeroes) : END;
	return step == GO;
}
