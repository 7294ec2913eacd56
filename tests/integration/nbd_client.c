/* SPDX-License-Identifier: MIT */
/*
 * A client that knows what its server must have: several connections write, zero,
 * read and flush blocks, each with a generation, until the server dies or says that the
 * region is gone; once the region is back, every block is read and compared.
 *
 *	nbd_client URI SEED whole|words		(what a crash may not tear)
 *
 * The client prints a line and waits for one, in turn:
 *
 *	loaded				the connections are busy
 *	down WHY MS			all connections have failed: the error's name, and
 *					the time from the first failure to the last
 *	    < up			the server is there again
 *	ok WRITES FLUSHED FUA TORN	nothing is lost.  Counted are writes that were
 *					acknowledged, those of them before a flush that
 *					was acknowledged, those with FUA; and blocks
 *					that were in flight and are mixed (words only).
 *					Then from the top
 *	    < quit			in place of up
 *
 * A block has at most one write in flight.  So after a crash it holds the last
 * generation that was acknowledged, or the one that was in flight: as a whole, or
 * (words) word by word.  Nothing else, zeros least of all.
 */
#include <libnbd.h>

#include "tests/integration/lib_test.h"

#define BLOCK		4096ul
#define WORDS		(BLOCK / 8)
#define NR_BLOCKS	2048ul		/* of each connection */
#define NR_CONNS	4
#define DEPTH		16
#define MAX_RUN		256		/* blocks of a request */
#define ZEROS		(1ull << 63)	/* a generation that is all zeros */
#define LOADED		100		/* requests of each connection */

struct block {
	uint64_t acked, maybe;		/* maybe: the generation in flight, 0: none */
	bool busy;
};

enum kind { READ, WRITE, ZERO, FLUSH };

struct conn;

struct op {
	struct conn *conn;
	enum kind kind;
	bool busy, fua;
	uint64_t gen;
	size_t first, nr;
	uint64_t *buf;
};

struct conn {
	struct nbd_handle *nbd;
	pthread_t thread;
	unsigned int id;
	uint64_t rng, gen;
	struct block blocks[NR_BLOCKS];
	struct op ops[DEPTH];
	unsigned int in_flight;
	uint64_t done, acked, flushed, fua;
	int error;			/* the first */
	double first_error, last_error;
};

static struct conn conns[NR_CONNS];
static const char *uri;
static bool whole;
static unsigned int nr_loaded;

/* --- what is in a block --- */

/* The first word of a block; the others count up from it. */
static uint64_t stamp(const struct conn *c, size_t block, uint64_t gen)
{
	return word(gen, c->id * NR_BLOCKS + block, 0);
}

static bool is_zeros(uint64_t gen)
{
	return !gen || gen & ZEROS;
}

/* A cheap generator: the server is to have the CPU. */
static void fill_block(const struct conn *c, size_t block, uint64_t gen, uint64_t *w)
{
	uint64_t first = is_zeros(gen) ? 0 : stamp(c, block, gen), step = !is_zeros(gen);

	for (size_t i = 0; i < WORDS; i++)
		w[i] = first + i * step;
}

static bool is_gen(const struct conn *c, size_t block, uint64_t gen, const uint64_t *w)
{
	uint64_t want[WORDS];

	fill_block(c, block, gen, want);
	return !memcmp(w, want, BLOCK);
}

static bool is_mix(const struct conn *c, size_t block, const uint64_t *w)
{
	uint64_t acked[WORDS], maybe[WORDS];

	fill_block(c, block, c->blocks[block].acked, acked);
	fill_block(c, block, c->blocks[block].maybe, maybe);
	for (size_t i = 0; i < WORDS; i++)
		if (w[i] != acked[i] && w[i] != maybe[i])
			return false;
	return true;
}

__attribute__((noreturn))
static void wrong(const struct conn *c, size_t block, const uint64_t *w)
{
	const struct block *b = &c->blocks[block];
	uint64_t acked[WORDS], maybe[WORDS];
	size_t i;

	fill_block(c, block, b->acked, acked);
	fill_block(c, block, b->maybe, maybe);
	for (i = 0; i < WORDS && w[i] == acked[i]; i++)
		;
	fprintf(stderr,
		"connection %u block %zu: generation %#llx acknowledged, %#llx in flight, "
		"but word %zu is %#llx, not %#llx or %#llx\n",
		c->id, block, (unsigned long long)b->acked, (unsigned long long)b->maybe, i,
		(unsigned long long)w[i % WORDS], (unsigned long long)acked[i % WORDS],
		(unsigned long long)maybe[i % WORDS]);
	_exit(1);
}

static uint64_t offset_of(const struct conn *c, size_t block)
{
	return (c->id * NR_BLOCKS + block) * BLOCK;
}

/* --- load --- */

static void failed(struct conn *c, int error)
{
	if (!c->error) {
		c->error = error;
		c->first_error = now();
	}
	c->last_error = now();
}

static void finished(struct op *op)
{
	struct conn *c = op->conn;

	for (size_t i = op->first; op->kind != FLUSH && i < op->first + op->nr; i++) {
		struct block *b = &c->blocks[i];

		if (op->kind == READ) {
			if (!is_gen(c, i, b->acked, op->buf + (i - op->first) * WORDS))
				wrong(c, i, op->buf + (i - op->first) * WORDS);
			continue;
		}
		b->acked = op->gen;
		b->maybe = 0;
	}
	if (op->kind == WRITE || op->kind == ZERO) {
		c->acked++;
		c->fua += op->fua;
	} else if (op->kind == FLUSH && op->gen > c->flushed) {
		c->flushed = op->gen;
	}
}

static int completion(void *data, int *error)
{
	struct op *op = data;
	struct conn *c = op->conn;

	if (*error)
		failed(c, *error);
	else
		finished(op);
	for (size_t i = op->first; op->kind != FLUSH && i < op->first + op->nr; i++)
		c->blocks[i].busy = false;
	op->busy = false;
	c->in_flight--;
	c->done++;
	return 1;
}

/* A run of blocks without a request in flight; false if none was found at once. */
static bool pick(struct op *op)
{
	struct conn *c = op->conn;

	/* A server that dies is more often in the middle of the copy of a large request. */
	op->nr = rnd(&c->rng) % 2 ? 1 : 1 + rnd(&c->rng) % MAX_RUN;
	op->first = rnd(&c->rng) % (NR_BLOCKS - op->nr + 1);
	for (size_t i = op->first; i < op->first + op->nr; i++)
		if (c->blocks[i].busy)
			return false;
	return true;
}

static void choose(struct op *op)
{
	unsigned int r = rnd(&op->conn->rng) % 100;

	op->kind = r < 75 ? WRITE : r < 85 ? ZERO : r < 97 ? READ : FLUSH;
	op->fua = op->kind != READ && op->kind != FLUSH && !(rnd(&op->conn->rng) % 16);
}

/* Marks the blocks as the server may have them from now on. */
static void prepare(struct op *op)
{
	struct conn *c = op->conn;

	op->gen = op->kind == FLUSH ? c->acked : ++c->gen | (op->kind == ZERO ? ZEROS : 0);
	for (size_t i = op->first; op->kind != FLUSH && i < op->first + op->nr; i++) {
		c->blocks[i].busy = true;
		if (op->kind == READ)
			continue;
		c->blocks[i].maybe = op->gen;
		if (op->kind == WRITE)
			fill_block(c, i, op->gen, op->buf + (i - op->first) * WORDS);
	}
	op->busy = true;
	c->in_flight++;
}

static void submit(struct op *op)
{
	nbd_completion_callback done = { .callback = completion, .user_data = op };
	uint32_t fua = op->fua ? LIBNBD_CMD_FLAG_FUA : 0;
	struct conn *c = op->conn;
	uint64_t offset = offset_of(c, op->first);
	size_t len = op->nr * BLOCK;
	int64_t cookie;

	switch (op->kind) {
	case READ:
		cookie = nbd_aio_pread(c->nbd, op->buf, len, offset, done, 0);
		break;
	case WRITE:
		cookie = nbd_aio_pwrite(c->nbd, op->buf, len, offset, done, fua);
		break;
	case ZERO:
		cookie = nbd_aio_zero(c->nbd, len, offset, done,
				      fua | (op->gen & 1 ? LIBNBD_CMD_FLAG_NO_HOLE : 0));
		break;
	default:
		cookie = nbd_aio_flush(c->nbd, done, 0);
	}
	/* The connection died: whether the callback was or will be called isn't known, and the
	 * server hasn't seen the request. */
	if (cookie < 0)
		failed(c, nbd_get_errno());
	if (cookie < 0 && op->busy) {
		op->busy = false;
		c->in_flight--;
	}
}

static void *load(void *arg)
{
	struct conn *c = arg;
	double last = now();
	uint64_t done = c->done;
	bool told = false;

	c->error = 0;
	while (!c->error || c->in_flight) {
		for (struct op *op = c->ops; !c->error && op < c->ops + DEPTH; op++) {
			if (op->busy)
				continue;
			choose(op);
			if (op->kind != FLUSH && !pick(op))
				continue;
			prepare(op);
			submit(op);
		}
		if (!told && c->done >= LOADED) {
			told = true;
			__atomic_fetch_add(&nr_loaded, 1, __ATOMIC_RELEASE);
		}
		if (nbd_poll(c->nbd, 1000) < 0 && c->in_flight && nbd_aio_is_dead(c->nbd)) {
			/* libnbd calls no callback any more. */
			failed(c, ENOTCONN);
			break;
		}
		if (c->done != done) {
			done = c->done;
			last = now();
		}
		if (now() > last + PATIENCE) {
			fprintf(stderr, "connection %u: %u requests hang\n", c->id, c->in_flight);
			_exit(1);
		}
	}
	return NULL;
}

/* --- after the load --- */

static void check_refused(struct conn *c, int rc)
{
	CHECK_EQ(rc, -1);
	/* A server that is told to end says the same, and hangs up. */
	if (nbd_aio_is_ready(c->nbd))
		CHECK_EQ(nbd_get_errno(), ESHUTDOWN);
}

/* The region is away: every request fails with that. */
static void check_away(struct conn *c)
{
	char buf[512] = "";

	check_refused(c, nbd_pread(c->nbd, buf, 512, offset_of(c, 0), 0));
	check_refused(c, nbd_pwrite(c->nbd, buf, 512, offset_of(c, 0), LIBNBD_CMD_FLAG_FUA));
	check_refused(c, nbd_flush(c->nbd, 0));
	check_refused(c, nbd_zero(c->nbd, 4096, offset_of(c, 0), 0));
	check_refused(c, nbd_trim(c->nbd, 4096, offset_of(c, 0), 0));
}

static void connect_to(struct conn *c)
{
	if (c->nbd)
		nbd_close(c->nbd);
	c->nbd = nbd_create();
	CHECK(c->nbd);
	if (nbd_connect_uri(c->nbd, uri)) {
		fprintf(stderr, "%s: %s\n", uri, nbd_get_error());
		_exit(1);
	}
	CHECK(nbd_get_size(c->nbd) >= (int64_t)(NR_CONNS * NR_BLOCKS * BLOCK));
}

/* Connects again if the server has ended; else the old connection must still be there. */
static void reconnect(struct conn *c)
{
	char buf[512];

	if (nbd_aio_is_ready(c->nbd) && !nbd_pread(c->nbd, buf, 512, offset_of(c, 0), 0))
		return;
	if (nbd_aio_is_ready(c->nbd)) {
		fprintf(stderr, "after it came back: %s\n", nbd_get_error());
		_exit(1);
	}
	connect_to(c);
}

/* The generation that was found in the block is the acknowledged one from now on. */
static void accept_block(struct conn *c, size_t i, uint64_t *w, uint64_t *torn)
{
	struct block *b = &c->blocks[i];

	b->busy = false;
	if (is_gen(c, i, b->acked, w)) {
		b->maybe = 0;
	} else if (b->maybe && is_gen(c, i, b->maybe, w)) {
		b->acked = b->maybe;
		b->maybe = 0;
	} else if (!whole && b->maybe && is_mix(c, i, w)) {
		++*torn;
		b->acked = ++c->gen;
		b->maybe = 0;
		fill_block(c, i, b->acked, w);
		CHECK_EQ(nbd_pwrite(c->nbd, w, BLOCK, offset_of(c, i), 0), 0);
	} else {
		wrong(c, i, w);
	}
}

static void verify(struct conn *c, uint64_t *torn)
{
	static uint64_t buf[64 * WORDS];

	for (size_t i = 0; i < NR_BLOCKS; i += 64) {
		if (nbd_pread(c->nbd, buf, 64 * BLOCK, offset_of(c, i), 0)) {
			fprintf(stderr, "%s\n", nbd_get_error());
			_exit(1);
		}
		for (size_t j = 0; j < 64; j++)
			accept_block(c, i + j, buf + j * WORDS, torn);
	}
	for (struct op *op = c->ops; op < c->ops + DEPTH; op++)
		op->busy = false;
	c->in_flight = 0;
}

static bool told(const char *what)
{
	char line[64] = "";

	if (!fgets(line, sizeof(line), stdin))
		_exit(1);
	line[strcspn(line, "\n")] = '\0';
	return !strcmp(line, what);
}

static void run_load(void)
{
	double first = 0, last = 0;

	nr_loaded = 0;
	for (struct conn *c = conns; c < conns + NR_CONNS; c++) {
		c->done = 0;
		CHECK(!pthread_create(&c->thread, NULL, load, c));
	}
	WAIT_FOR(__atomic_load_n(&nr_loaded, __ATOMIC_ACQUIRE) == NR_CONNS);
	printf("loaded\n");
	for (struct conn *c = conns; c < conns + NR_CONNS; c++) {
		CHECK(!pthread_join(c->thread, NULL));
		if (!first || c->first_error < first)
			first = c->first_error;
		last = c->last_error > last ? c->last_error : last;
		CHECK(nbd_aio_is_dead(c->nbd) || nbd_aio_is_closed(c->nbd) ||
		      c->error == ESHUTDOWN || c->error == EIO);
		if (nbd_aio_is_ready(c->nbd))
			check_away(c);
	}
	printf("down %s %.0f\n", strerrorname_np(conns[0].error), (last - first) * 1000);
}

int main(int argc, char **argv)
{
	uint64_t writes, flushed, fua, torn = 0, s;

	CHECK_EQ(argc, 4);
	uri = argv[1];
	whole = !strcmp(argv[3], "whole");
	setvbuf(stdout, NULL, _IOLBF, 0);
	s = strtoull(argv[2], NULL, 0);
	for (struct conn *c = conns; c < conns + NR_CONNS; c++) {
		c->id = c - conns;
		c->rng = (s + 1) * 0x9e3779b97f4a7c15ull + c->id;
		for (struct op *op = c->ops; op < c->ops + DEPTH; op++) {
			op->conn = c;
			op->buf = malloc(MAX_RUN * BLOCK);
			CHECK(op->buf);
		}
		connect_to(c);
	}
	for (;;) {
		run_load();
		if (!told("up"))
			return 0;
		writes = flushed = fua = 0;
		for (struct conn *c = conns; c < conns + NR_CONNS; c++) {
			reconnect(c);
			verify(c, &torn);
			writes += c->acked;
			flushed += c->flushed;
			fua += c->fua;
		}
		printf("ok %llu %llu %llu %llu\n", (unsigned long long)writes,
		       (unsigned long long)flushed, (unsigned long long)fua,
		       (unsigned long long)torn);
	}
}
