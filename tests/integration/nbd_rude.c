/* SPDX-License-Identifier: MIT */
/*
 * A client that breaks every rule of the protocol, and of manners.
 *
 *	nbd_rude SOCKET SEED COUNT	COUNT rude acts, one after the other, drawn at
 *					random; some leave connections behind that do
 *					nothing, or don't read, for a while
 *	nbd_rude SOCKET hold COUNT mute|idle|unread
 *					COUNT connections at once that don't shake hands,
 *					or shake hands and do nothing, or ask and don't
 *					read; prints how many there are, and waits for
 *					the end of the input
 *
 * SOCKET: a unix socket's path, or a TCP port of this host.  Its writes go to the last 8 MiB
 * of the region, where other clients have nothing.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "nbd/proto.h"
#include "tests/integration/lib_test.h"

#define OURS		(UINT64_C(8) << 20)	/* bytes at the region's end */
#define MIB		(1u << 20)
#define MAX_HELD	48
#define STEP_MS		20		/* how long to wait for an answer */

static const char *where;
static uint64_t rng, size;
static int held[MAX_HELD];
static int patience_ms = STEP_MS;
static char junk[MIB];

/* --- sockets --- */

static void set_patience(int fd, int ms)
{
	const struct timeval bound = { ms / 1000, ms % 1000 * 1000 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof(bound));
}

static int dial(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in = { .sin_family = AF_INET };
	bool tcp = *where != '/';
	int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

	CHECK(fd >= 0);
	if (tcp) {
		in.sin_port = htons(atoi(where));
		in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		rc = connect(fd, (struct sockaddr *)&in, sizeof(in));
	} else {
		snprintf(un.sun_path, sizeof(un.sun_path), "%s", where);
		rc = connect(fd, (struct sockaddr *)&un, sizeof(un));
	}
	CHECK(!rc);
	set_patience(fd, patience_ms);
	return fd;
}

static bool push(int fd, const void *buf, size_t len)
{
	return send(fd, buf, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool pull(int fd, void *buf, size_t len)
{
	return recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

/* --- the part of the protocol that is kept --- */

static bool push_option(int fd, uint32_t nr, uint32_t len)
{
	struct nbd_option o = { htobe64(NBD_OPTS_MAGIC), htobe32(nr), htobe32(len) };

	return push(fd, &o, sizeof(o));
}

static bool greet(int fd)
{
	uint32_t flags = htobe32(NBD_FLAG_FIXED | NBD_FLAG_NO_ZEROES);
	char hello[18];

	return pull(fd, hello, sizeof(hello)) && push(fd, &flags, sizeof(flags));
}

/* A connection that has shaken hands; -1: it was turned away. */
static int enter(void)
{
	struct {
		uint64_t size;
		uint16_t flags;
	} __attribute__((packed)) export;
	int fd = dial();

	if (greet(fd) && push_option(fd, NBD_OPT_EXPORT_NAME, 0) &&
	    pull(fd, &export, sizeof(export))) {
		size = be64toh(export.size);
		return fd;
	}
	close(fd);
	return -1;
}

static bool ask(int fd, uint16_t type, uint64_t offset, uint32_t len)
{
	static uint64_t cookie;
	struct nbd_wire_request w = {
		htobe32(NBD_REQUEST_MAGIC),
		0,
		htobe16(type),
		cookie++,
		htobe64(offset),
		htobe32(len),
	};

	return push(fd, &w, sizeof(w));
}

static uint64_t our_offset(void)
{
	return size - OURS + rnd(&rng) % (OURS - MIB);
}

/* --- acts --- */

/* Leaves a handshake: before it, in the middle of a word, or after a wrong one. */
static void at_the_door(void)
{
	int fd = dial();
	char hello[18];

	if (rnd(&rng) % 2)
		pull(fd, hello, 1 + rnd(&rng) % sizeof(hello));
	push(fd, junk + rnd(&rng) % 4096, rnd(&rng) % 3000);
	close(fd);
}

static void wrong_options(void)
{
	static const uint32_t lens[] = { 0, 1, 7, 4096, 8192, 8193, 0x7fffffff, 0xffffffff };
	int fd = dial();

	if (greet(fd)) {
		for (int i = rnd(&rng) % 100; i >= 0; i--) {
			uint32_t len = lens[rnd(&rng) % 8];

			if (!push_option(fd, rnd(&rng) % 14, len) ||
			    !push(fd, junk + rnd(&rng) % 4096, len > 8192 ? 5 : len))
				break;
		}
	}
	close(fd);
}

/* Names and queries with lengths beyond the option that has them. */
static void lying_option(void)
{
	static const uint32_t options[] = { NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_LIST_META_CONTEXT,
					    NBD_OPT_SET_META_CONTEXT };
	uint32_t data[4] = { htobe32(rnd(&rng)), rnd(&rng), htobe32(0xfffffffc), rnd(&rng) };
	int fd = dial();

	if (rnd(&rng) % 2)
		data[0] = htobe32(rnd(&rng) % 8);
	if (greet(fd)) {
		push_option(fd, NBD_OPT_STRUCTURED_REPLY, 0);
		push_option(fd, options[rnd(&rng) % 4], sizeof(data));
		push(fd, data, sizeof(data));
		pull(fd, junk, 20 + 20);
	}
	close(fd);
}

static void half_a_request(int fd)
{
	char part[27] = { 0x25, 0x60, (char)0x95, 0x13 };

	push(fd, part, 1 + rnd(&rng) % sizeof(part));
}

static void wrong_magic(int fd)
{
	push(fd, junk, 28 * (1 + rnd(&rng) % 4));
}

static void reads_in_flight(int fd)
{
	uint32_t len = rnd(&rng) % 2 ? MIB : 4096;

	for (int i = 0; i < 40; i++)
		if (!ask(fd, NBD_CMD_READ, rnd(&rng) % (size - MIB), len))
			break;
	/* Hangs up when some replies are on their way, or at once. */
	if (rnd(&rng) % 2)
		pull(fd, junk, rnd(&rng) % MIB);
}

static void writes_in_flight(int fd)
{
	for (int i = 0; i < 20; i++)
		if (!ask(fd, NBD_CMD_WRITE, our_offset(), 65536) || !push(fd, junk, 65536))
			return;
	ask(fd, NBD_CMD_FLUSH, 0, 0);
	ask(fd, NBD_CMD_WRITE, our_offset(), MIB);
	push(fd, junk, rnd(&rng) % MIB);
}

static void wrong_lengths(int fd)
{
	static const uint32_t lens[] = { 0, 1, 33u << 20, 64u << 20, 0x7fffffff, 0xffffffff };
	uint32_t len = lens[rnd(&rng) % 6];

	ask(fd, NBD_CMD_READ, rnd(&rng), len);
	ask(fd, NBD_CMD_READ, 0, 0xffffffff);
	ask(fd, NBD_CMD_READ, size - 512, 1024);
	ask(fd, NBD_CMD_TRIM, UINT64_MAX - 511, 4096);
	ask(fd, NBD_CMD_WRITE_ZEROES, size, len);
	ask(fd, NBD_CMD_BLOCK_STATUS, 0, len);
	ask(fd, NBD_CMD_WRITE, size, len);
	push(fd, junk, len < MIB ? len : MIB);
}

/* Any field may be anything, but a write must go to the bytes of this client. */
static void any_requests(int fd)
{
	for (int i = 0; i < 50; i++) {
		struct nbd_wire_request w = {
			htobe32(NBD_REQUEST_MAGIC),
			rnd(&rng) % 3 ? 0 : htobe16(rnd(&rng) % 64),
			htobe16(rnd(&rng) % 10),
			rnd(&rng),
			htobe64(our_offset()),
			htobe32(rnd(&rng) % 3 ? rnd(&rng) % 20000 : rnd(&rng) % MIB),
		};

		if (!push(fd, &w, sizeof(w)))
			break;
		if (be16toh(w.type) == NBD_CMD_WRITE && !push(fd, junk, be32toh(w.len)))
			break;
	}
	pull(fd, junk, rnd(&rng) % 20000);
}

/* Closes the sending side first, and then reads every reply: that is allowed. */
static void closes_first(int fd)
{
	uint64_t left = 10 * (65536 + sizeof(struct nbd_simple));
	ssize_t n;

	for (int i = 0; i < 10; i++)
		ask(fd, NBD_CMD_READ, rnd(&rng) % (size - MIB), 65536);
	shutdown(fd, SHUT_WR);
	while (left && (n = recv(fd, junk, left < MIB ? left : MIB, 0)) > 0)
		left -= n;
	/* The requests before the close have been answered. */
	CHECK(!left || errno == EAGAIN);
}

static void does_not_read(int fd)
{
	for (int i = 0; i < 200; i++)
		if (!ask(fd, NBD_CMD_READ, rnd(&rng) % (size - MIB), MIB))
			break;
}

static void (*const acts[])(int fd) = {
	half_a_request,	  wrong_magic,	 reads_in_flight, reads_in_flight, reads_in_flight,
	writes_in_flight, wrong_lengths, any_requests,	  closes_first,	   does_not_read,
};
#define NR_ACTS (sizeof(acts) / sizeof(acts[0]))

/* Closes the connection, at once or a while later. */
static void leave(int fd)
{
	unsigned int i = rnd(&rng) % MAX_HELD;

	if (rnd(&rng) % 4) {
		/* Over TCP that is a reset. */
		if (rnd(&rng) % 2)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
				   sizeof(struct linger));
		close(fd);
		return;
	}
	if (held[i])
		close(held[i]);
	held[i] = fd;
}

static void act(void)
{
	unsigned int which = rnd(&rng) % (NR_ACTS + 4);
	int fd;

	switch (which) {
	case 0:
		at_the_door();
		return;
	case 1:
		wrong_options();
		return;
	case 2:
		lying_option();
		return;
	case 3:
		close(dial());
		return;
	}
	fd = enter();
	if (fd < 0)
		return;		/* there are too many such connections */
	acts[which - 4](fd);
	leave(fd);
}

/* --- many at once --- */

static int hold(unsigned int count, const char *kind)
{
	unsigned int have = 0;
	char byte;

	patience_ms = 10000;	/* a busy server takes its time */
	for (unsigned int i = 0; i < count; i++) {
		int fd = !strcmp(kind, "mute") ? dial() : enter();

		have += fd >= 0;
		if (fd >= 0 && !strcmp(kind, "unread")) {
			set_patience(fd, STEP_MS);
			does_not_read(fd);
		}
	}
	printf("%u\n", have);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}

int main(int argc, char **argv)
{
	CHECK(argc >= 4);
	where = argv[1];
	if (!strcmp(argv[2], "hold"))
		return hold(atoi(argv[3]), argv[4]);
	rng = strtoull(argv[2], NULL, 0);
	for (size_t i = 0; i < sizeof(junk); i++)
		junk[i] = rnd(&rng);
	for (long left = atol(argv[3]); left > 0; left--)
		act();
	return 0;
}
