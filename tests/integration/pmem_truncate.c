/* SPDX-License-Identifier: MIT */
/*
 * The file is shortened under load, to anywhere, and made long again: a read gives what
 * was written there, or -EIO, never zeros; a write of whole sectors heals what can be
 * healed; and nothing dies.
 *
 * Every sector is stamped from the start, so zeros are always wrong.
 */
#include "pmem_lib.h"

#define BYTES	(4 * MIB)
#define SECTORS	(BYTES / SECTOR)
#define ROUNDS	(SANITIZED ? 15 : 40)
#define READERS	2
#define MOST	64u

static struct zd_pmem *pmem;
static uint32_t stop, reads, writes, eio;

struct worker {
	uint64_t rand;
};

static void check_read(uint64_t sector, uint64_t nr, char *buf)
{
	int rc = zd_pmem_rw(pmem, ZD_PMEM_READ, 0, sector, nr, buf);

	if (rc) {
		CHECK_EQ(rc, -EIO);
		__atomic_add_fetch(&eio, 1, __ATOMIC_RELAXED);
		return;
	}
	for (uint64_t s = 0; s < nr; s++)
		if (stamped(buf + s * SECTOR, sector + s) < 1) {
			/* two writers may tear it between them, word by word */
			const uint64_t *w = (const uint64_t *)(buf + s * SECTOR);

			for (uint64_t i = 0; i < SECTOR / 8; i++)
				CHECK((w[i] ^ (i * 0x9e3779b97f4a7c15ull)) >> 32 == sector + s);
		}
	__atomic_add_fetch(&reads, 1, __ATOMIC_RELAXED);
}

static void *read_on(void *arg)
{
	struct worker *w = arg;
	char buf[MOST * SECTOR];

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint64_t nr = 1 + rnd(&w->rand) % MOST;

		check_read(rnd(&w->rand) % (SECTORS - nr), nr, buf);
	}
	return NULL;
}

static void *write_on(void *arg)
{
	struct worker *w = arg;
	char buf[MOST * SECTOR];
	uint32_t gen = 2;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint64_t nr = 1 + rnd(&w->rand) % MOST, sector = rnd(&w->rand) % (SECTORS - nr);
		int rc;

		stamp(buf, sector, nr, gen++);
		rc = zd_pmem_rw(pmem, ZD_PMEM_WRITE, 0, sector, nr, buf);
		CHECK(rc == 0 || rc == -EIO);
		__atomic_add_fetch(&writes, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Every sector that is bad is written anew.  True: all of them were. */
static bool heal(void)
{
	uint64_t s = 0, first, nr;
	char buf[SECTOR];

	for (; zd_pmem_badblocks_check(pmem, s, SECTORS - s, &first, &nr); s = first + 1) {
		int rc = zd_pmem_rw(pmem, ZD_PMEM_READ, 0, first, 1, buf);

		CHECK(rc == -EIO || rc == 0);	/* the writer may have been there */
		stamp(buf, first, 1, 1);
		CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_WRITE, 0, first, 1, buf), 0);
	}
	return !zd_pmem_badblocks_check(pmem, 0, SECTORS, NULL, NULL);
}

static void cut(const char *path, uint64_t *rand)
{
	uint64_t bytes = rnd(rand) % BYTES, last = SECTORS - 1;
	uint32_t w = __atomic_load_n(&writes, __ATOMIC_RELAXED);
	char buf[SECTOR];

	if (rnd(rand) % 2)
		bytes &= ~(SECTOR - 1);
	CHECK(!truncate(path, bytes));
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_READ, 0, last, 1, buf), -EIO);
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_FLUSH, 0, 0, 0, NULL), -EIO);
	/* under load, short and long */
	WAIT_FOR(__atomic_load_n(&writes, __ATOMIC_RELAXED) - w > 20);
	CHECK(!truncate(path, BYTES));
	WAIT_FOR(__atomic_load_n(&writes, __ATOMIC_RELAXED) - w > 40);
	/* a thread that saw the short file may be late to list that */
	WAIT_FOR(heal());
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_FLUSH, 0, 0, 0, NULL), 0);
}

int main(int argc, char **argv)
{
	const char *path = region_path("truncate");
	uint64_t rand = seed(argc, argv);
	struct worker w[READERS + 1];
	pthread_t t[READERS + 1];
	char *all = malloc(BYTES);

	unlink(path);
	pmem = open_region(path, 0, BYTES);
	stamp(all, 0, SECTORS, 1);
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_WRITE, 0, 0, SECTORS, all), 0);
	for (int i = 0; i <= READERS; i++) {
		w[i].rand = rand + i + 1;
		CHECK_EQ(pthread_create(&t[i], NULL, i ? read_on : write_on, &w[i]), 0);
	}
	for (int i = 0; i < ROUNDS; i++)
		cut(path, &rand);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i <= READERS; i++)
		pthread_join(t[i], NULL);
	WAIT_FOR(heal());
	for (uint64_t s = 0; s < SECTORS; s += MOST)
		check_read(s, MOST, all);
	printf("%u reads, %u writes, %u refused\n", reads, writes, eio);
	CHECK(eio > 0);
	zd_pmem_close(pmem);
	free(all);
	unlink(path);
	return 0;
}
