/* SPDX-License-Identifier: MIT */
/*
 * kill -9 in the middle of writes, again and again, on a file: with a BTT every block is
 * of one write, and every write that was completed is there; without one every completed
 * write is there.
 *
 * Each thread writes to blocks of its own, of random lengths, and notes before and after
 * in memory that the parent shares.  Broken: "torn", "lost" or "from the future".
 */
#include "pmem_lib.h"

#define ROUNDS		(SANITIZED ? 25 : 60)
#define THREADS		3
#define BYTES		(8 * MIB)
#define BLOCK		8u		/* sectors */
#define BLOCKS		64u		/* of each thread */
#define MOST		20u		/* blocks in one write */

struct slot {
	uint32_t started, completed;	/* generations */
};

static struct shared {
	struct slot block[THREADS][BLOCKS];
	uint32_t writes;
} * sh;

struct writer {
	struct zd_pmem *pmem;
	unsigned int nr;
	uint64_t rand;
};

static uint64_t first_sector(unsigned int thread, unsigned int block)
{
	return (thread * BLOCKS + block) * BLOCK;
}

static void *write_on(void *arg)
{
	struct writer *w = arg;
	char buf[MOST * BLOCK * SECTOR];

	for (;;) {
		unsigned int nr = 1 + rnd(&w->rand) % MOST;
		unsigned int first = rnd(&w->rand) % (BLOCKS - nr + 1);
		uint64_t sector = first_sector(w->nr, first);
		struct slot *s = &sh->block[w->nr][first];
		uint32_t gen = __atomic_add_fetch(&sh->writes, 1, __ATOMIC_RELAXED);

		stamp(buf, sector, nr * BLOCK, gen);
		for (unsigned int i = 0; i < nr; i++)
			__atomic_store_n(&s[i].started, gen, __ATOMIC_RELEASE);
		CHECK_EQ(zd_pmem_rw(w->pmem, ZD_PMEM_WRITE, 0, sector, nr * BLOCK, buf), 0);
		for (unsigned int i = 0; i < nr; i++)
			__atomic_store_n(&s[i].completed, gen, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void child(const char *path, unsigned int flags, uint64_t rand)
{
	struct zd_pmem *pmem = open_region(path, flags, BYTES);
	struct writer w[THREADS];
	pthread_t t;

	for (unsigned int i = 0; i < THREADS; i++) {
		w[i] = (struct writer){ pmem, i, rand + i * 77777 };
		CHECK_EQ(pthread_create(&t, NULL, write_on, &w[i]), 0);
	}
	pthread_join(t, NULL);
}

static void check_block(const char *buf, uint64_t sector, struct slot *s, bool btt)
{
	int64_t gen[BLOCK];

	for (unsigned int i = 0; i < BLOCK; i++) {
		gen[i] = stamped(buf + i * SECTOR, sector + i);
		/* only what was being written may be torn, and not with a BTT */
		if (gen[i] < 0 && !btt && s->started != s->completed)
			continue;
		if (gen[i] != s->started && gen[i] != s->completed)
			fprintf(stderr, "sector %llu: generation %lld, not %u or %u\n",
				(unsigned long long)sector + i, (long long)gen[i], s->completed,
				s->started);
		CHECK(gen[i] == s->started || gen[i] == s->completed);
		CHECK(!btt || gen[i] == gen[0]);
	}
	/* from here on the model has what was found */
	s->started = s->completed = gen[0] < 0 ? 0 : gen[0];
}

static void check_all(const char *path, unsigned int flags)
{
	struct zd_pmem *pmem = open_region(path, flags, BYTES);
	char buf[BLOCK * SECTOR];

	for (unsigned int t = 0; t < THREADS; t++)
		for (unsigned int b = 0; b < BLOCKS; b++) {
			CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_READ, 0, first_sector(t, b), BLOCK, buf),
				 0);
			check_block(buf, first_sector(t, b), &sh->block[t][b], flags & ZD_PMEM_BTT);
			if (flags & ZD_PMEM_BTT)
				continue;
			/* torn or not: start anew with something whole */
			stamp(buf, first_sector(t, b), BLOCK, 1);
			CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_WRITE, 0, first_sector(t, b), BLOCK, buf),
				 0);
			sh->block[t][b] = (struct slot){ 1, 1 };
		}
	zd_pmem_close(pmem);
}

static void kill_and_check(const char *path, unsigned int flags, uint64_t *rand)
{
	uint32_t until = __atomic_load_n(&sh->writes, __ATOMIC_RELAXED) + rnd(rand) % 150;
	uint64_t spin = rnd(rand) % 20000;
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (!pid)
		child(path, flags, rnd(rand));
	WAIT_FOR(__atomic_load_n(&sh->writes, __ATOMIC_RELAXED) > until ||
		 waitpid(pid, &status, WNOHANG) == pid);
	while (spin--)		/* anywhere within a write */
		__asm__ volatile("" ::: "memory");
	CHECK(!kill(pid, SIGKILL));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	check_all(path, flags);
}

static void run(const char *path, unsigned int flags, int rounds, uint64_t *rand)
{
	unlink(path);
	memset(sh, 0, sizeof(*sh));
	for (int i = 0; i < rounds; i++)
		kill_and_check(path, flags, rand);
	printf("%s: %d kills, %u writes\n", flags ? "btt" : "raw", rounds, sh->writes);
	unlink(path);
}

int main(int argc, char **argv)
{
	const char *path = region_path("kill");
	uint64_t rand = seed(argc, argv);

	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(sh != MAP_FAILED);
	run(path, ZD_PMEM_BTT, ROUNDS, &rand);
	run(path, 0, ROUNDS / 3, &rand);
	return 0;
}
