/* SPDX-License-Identifier: MIT */
/*
 * The file of a served region is truncated while clients read and write it: requests beyond
 * the end of the file fail with EIO from then on, the others go on, and no client reads zeros
 * in place of what was cut off.
 *
 *	nbd_truncate URI FILE SEED load
 *	nbd_truncate URI FILE SEED quiet
 *
 * A write puts the same content there as before, so a read gives that content, or fails.  In
 * the quiet kind the first request after the cut is a read in the last page of the file,
 * beyond the cut, where the mapping has zeros and raises no SIGBUS.
 */
#include <libnbd.h>

#include "tests/integration/lib_test.h"

#define SIZE		(16ul << 20)
#define NR_THREADS	4
#define MAX_LEN		(128ul << 10)
#define SECTOR		512ul
#define REQUESTS	300		/* of each thread, before the cut and after */

struct client {
	struct nbd_handle *nbd;
	pthread_t thread;
	uint64_t rng, done, failed, beyond;
	char buf[MAX_LEN];
};

static struct client clients[NR_THREADS];
static char *pattern;
static uint64_t cut = SIZE;		/* set before the file is cut */
static bool is_cut;			/* set after it is cut */
static uint64_t warm, done;		/* counts of clients */

static struct nbd_handle *connect_to(const char *uri)
{
	struct nbd_handle *nbd = nbd_create();

	CHECK(nbd);
	if (nbd_connect_uri(nbd, uri)) {
		fprintf(stderr, "%s: %s\n", uri, nbd_get_error());
		exit(1);
	}
	CHECK_EQ(nbd_get_size(nbd), SIZE);
	return nbd;
}

static void check_data(const char *buf, uint64_t offset, size_t len)
{
	for (size_t i = 0; i < len; i += 8) {
		if (!memcmp(buf + i, pattern + offset + i, 8))
			continue;
		fprintf(stderr, "%#llx reads as %#llx with the file cut at %#llx\n",
			(unsigned long long)(offset + i), *(unsigned long long *)(buf + i),
			(unsigned long long)__atomic_load_n(&cut, __ATOMIC_RELAXED));
		_exit(1);
	}
}

static void one_request(struct client *c)
{
	uint64_t len = (1 + rnd(&c->rng) % (MAX_LEN / SECTOR)) * SECTOR;
	uint64_t offset = rnd(&c->rng) % ((SIZE - len) / SECTOR + 1) * SECTOR;
	bool after = __atomic_load_n(&is_cut, __ATOMIC_ACQUIRE);
	uint64_t end = __atomic_load_n(&cut, __ATOMIC_RELAXED);
	bool write = !(rnd(&c->rng) % 3);
	int rc;

	if (write)
		rc = nbd_pwrite(c->nbd, pattern + offset, len, offset, 0);
	else
		rc = nbd_pread(c->nbd, c->buf, len, offset, 0);
	if (!rc && !write)
		check_data(c->buf, offset, len);
	if (rc)
		CHECK_EQ(nbd_get_errno(), EIO);
	/* A request that was on its way may succeed, or fail also before the cut. */
	if (after)
		CHECK_EQ(!rc, offset + len <= end);
	c->failed += rc != 0;
	c->beyond += after && offset + len > end;
}

static void *run(void *arg)
{
	struct client *c = arg;
	uint64_t after = 0;

	while (after < REQUESTS) {
		one_request(c);
		if (++c->done == REQUESTS)
			__atomic_fetch_add(&warm, 1, __ATOMIC_RELEASE);
		after += __atomic_load_n(&is_cut, __ATOMIC_RELAXED);
	}
	__atomic_fetch_add(&done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Writes that the cut has undone can't be made durable: no flush may succeed. */
static void check_flush(struct nbd_handle *nbd)
{
	CHECK_EQ(nbd_flush(nbd, 0), -1);
	CHECK_EQ(nbd_get_errno(), EIO);
}

/* Where to cut: rarely, or never, at the end of a page. */
static uint64_t choose_cut(uint64_t *rng, bool in_a_page)
{
	uint64_t at = SIZE / 4 + rnd(rng) % (SIZE / 2 / SECTOR) * SECTOR;

	return in_a_page && at % PAGE == 0 ? at + SECTOR : at;
}

static void cut_under_load(const char *uri, const char *file, uint64_t at, uint64_t rng)
{
	uint64_t failed = 0, beyond = 0;

	for (int i = 0; i < NR_THREADS; i++) {
		clients[i].nbd = connect_to(uri);
		clients[i].rng = rng + 2 * i + 2;
		CHECK(!pthread_create(&clients[i].thread, NULL, run, &clients[i]));
	}
	WAIT_FOR(__atomic_load_n(&warm, __ATOMIC_ACQUIRE) == NR_THREADS);
	__atomic_store_n(&cut, at, __ATOMIC_RELAXED);
	CHECK(!truncate(file, at));
	__atomic_store_n(&is_cut, true, __ATOMIC_RELEASE);
	WAIT_FOR(__atomic_load_n(&done, __ATOMIC_ACQUIRE) == NR_THREADS);
	for (int i = 0; i < NR_THREADS; i++) {
		CHECK(!pthread_join(clients[i].thread, NULL));
		failed += clients[i].failed;
		beyond += clients[i].beyond;
		nbd_close(clients[i].nbd);
	}
	CHECK(beyond > 0);
	printf("cut at %#llx: %llu failed, %llu of them later\n", (unsigned long long)at,
	       (unsigned long long)failed, (unsigned long long)beyond);
}

static void cut_in_the_quiet(struct nbd_handle *nbd, const char *file, uint64_t at)
{
	char buf[PAGE];

	CHECK(!truncate(file, at));
	CHECK_EQ(nbd_pread(nbd, buf, SECTOR, at, 0), -1);
	CHECK_EQ(nbd_get_errno(), EIO);
	/* The last page as a whole, then its part before the end. */
	CHECK_EQ(nbd_pread(nbd, buf, PAGE, at / PAGE * PAGE, 0), -1);
	CHECK_EQ(nbd_get_errno(), EIO);
	CHECK_EQ(nbd_pread(nbd, buf, at % PAGE, at / PAGE * PAGE, 0), 0);
	check_data(buf, at / PAGE * PAGE, at % PAGE);
}

int main(int argc, char **argv)
{
	struct nbd_handle *nbd;
	uint64_t rng, at;
	char buf[SECTOR];
	bool quiet;

	CHECK_EQ(argc, 5);
	rng = strtoull(argv[3], NULL, 0) * 2 + 1;
	quiet = !strcmp(argv[4], "quiet");
	pattern = map(SIZE / PAGE);
	fill(pattern, SIZE / PAGE, 1);
	nbd = connect_to(argv[1]);
	for (at = 0; at < SIZE; at += MAX_LEN)
		CHECK_EQ(nbd_pwrite(nbd, pattern + at, MAX_LEN, at, 0), 0);
	CHECK_EQ(nbd_flush(nbd, 0), 0);

	at = choose_cut(&rng, quiet);
	if (quiet)
		cut_in_the_quiet(nbd, argv[2], at);
	else
		cut_under_load(argv[1], argv[2], at, rng);
	check_flush(nbd);
	/* A file that is made long again doesn't have its old content, and reads fail. */
	CHECK(!truncate(argv[2], SIZE));
	CHECK_EQ(nbd_pread(nbd, buf, SECTOR, SIZE - SECTOR, 0), -1);
	CHECK_EQ(nbd_pread(nbd, buf, SECTOR, at, 0), -1);
	CHECK_EQ(nbd_pread(nbd, buf, SECTOR, at - SECTOR, 0), 0);
	check_data(buf, at - SECTOR, SECTOR);
	nbd_close(nbd);
	return 0;
}
