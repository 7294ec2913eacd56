/* SPDX-License-Identifier: MIT */
/* The drivers' page allocator, against a plain array that does the same. */
#include "drivers_common.h"

#include <pthread.h>
#include <sys/wait.h>

#include "drivers/bits.h"
#include "drivers/pool.h"

/* Broken looks like: a bit is missed, or a clear one is found. */
static void bits_find_what_a_scan_finds(void **state)
{
	static const uint64_t sizes[] = { 1, 63, 64, 65, 4096, 4097, 4160, 300000 };
	uint64_t seed = 0x1234567, nr, i, from, want;
	struct zd_bits bits;
	unsigned int s, kind, round;
	bool *model;

	(void)state;
	for (s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		for (kind = ZD_BITS_FIND_SET; kind <= ZD_BITS_FIND_CLEAR; kind++) {
			nr = sizes[s];
			model = calloc(nr, 1);
			assert_int_equal(zd_bits_init(&bits, kind, nr), 0);
			assert_int_equal(zd_bits_find(&bits, 0), kind == ZD_BITS_FIND_SET ? nr : 0);
			if (kind == ZD_BITS_FIND_CLEAR) {
				for (i = 0; i < nr; i++) {	/* so that few bits are left to find */
					zd_bits_set(&bits, i);
					model[i] = true;
				}
				assert_int_equal(zd_bits_find(&bits, 0), nr);
			}
			for (round = 0; round < 300; round++) {
				i = prng(&seed) % nr;
				if (prng(&seed) & 1)
					zd_bits_set(&bits, i);
				else
					zd_bits_clear(&bits, i);
				model[i] = zd_bits_test(&bits, i);
				from = prng(&seed) % nr;
				for (want = from; want < nr; want++)
					if (model[want] == (kind == ZD_BITS_FIND_SET))
						break;
				assert_int_equal(zd_bits_find(&bits, from), want);
			}
			assert_int_equal(zd_bits_find(&bits, nr), nr);
			zd_bits_exit(&bits);
			free(model);
		}
	}
	assert_int_equal(zd_bits_init(&bits, ZD_BITS_FIND_SET, 0), -EINVAL);
	assert_int_equal(zd_bits_init(&bits, ZD_BITS_FIND_SET, (1ULL << 36) + 1), -EINVAL);
}

#define PAGES 1000	/* the last word has only 40 */

static unsigned int usable = PAGES;

static unsigned int take(struct zd_pool *pool, bool *model, unsigned int nr, uint64_t *out)
{
	unsigned int got = zd_pool_alloc(pool, nr, 0, out), i;

	for (i = 0; i < got; i++) {
		assert_true(out[i] < usable);
		assert_false(model[out[i]]);
		model[out[i]] = true;
	}
	return got;
}

/* A run of @nr free pages, if the model has one. */
static unsigned int take_row(struct zd_pool *pool, bool *model, unsigned int nr)
{
	unsigned int row = 0, longest = 0, i;
	uint64_t first;

	for (i = 0; i < usable; i++) {
		row = model[i] ? 0 : row + 1;
		longest = row > longest ? row : longest;
	}
	if (!zd_pool_alloc_run(pool, nr, &first)) {
		assert_true(longest < nr);
		return 0;
	}
	assert_true(first + nr <= usable);
	for (i = 0; i < nr; i++) {
		assert_false(model[first + i]);
		model[first + i] = true;
	}
	return nr;
}

/* Pages from @first on, before @end, that the model has free. */
static unsigned int count_free(const bool *model, unsigned int first, unsigned int end)
{
	unsigned int nr = 0;

	for (unsigned int i = first; i < end; i++)
		nr += !model[i];
	return nr;
}

static void random_against_model(void **state)
{
	enum zd_pool_policy policy = (enum zd_pool_policy)(uintptr_t)*state;
	uint64_t seed = 0x987654321, out[PAGES + 1], first, nr, i;
	struct zd_pool pool;
	bool model[PAGES] = { false };
	unsigned int got, round, want, left;

	assert_int_equal(zd_pool_init(&pool, PAGES, policy, 4, policy == ZD_POOL_COMPACT), 0);
	for (round = 0; round < 20000; round++) {
		left = count_free(model, 0, usable);
		switch (prng(&seed) % 5) {
		case 4:
			/* now and then, so that pages above stay in use for a while */
			if (prng(&seed) % 8)
				break;
			usable = prng(&seed) % 3 ? 1 + prng(&seed) % PAGES : PAGES;
			zd_pool_resize(&pool, usable);
			break;
		case 3:
			take_row(&pool, model, 1 + prng(&seed) % 200);
			break;
		case 0:
			want = prng(&seed) % 100;
			got = take(&pool, model, want, out);
			assert_int_equal(got, want < left ? want : left);
			break;
		case 1:
			for (i = prng(&seed) % PAGES; i < PAGES && prng(&seed) % 50; i++)
				if (model[i]) {
					model[i] = false;
					zd_pool_free(&pool, i);
				}
			break;
		case 2:
			zd_pool_age(&pool);
			nr = zd_pool_take_idle(&pool, 1 + prng(&seed) % 4, &first);
			for (i = first; i < first + nr; i++)
				assert_false(model[i]);
			if (!nr)
				break;
			assert_true(first % 64 == 0 && (nr % 64 == 0 || first + nr == PAGES));
			if (first < usable)
				left -= (first + nr < usable ? first + nr : usable) - first;
			assert_int_equal(zd_pool_free_pages(&pool), left);
			/* Out of circulation: none of these pages is allocated. */
			got = zd_pool_alloc(&pool, PAGES + 1, 0, out);
			assert_int_equal(got, left);
			for (i = 0; i < got; i++)
				assert_true(out[i] < first || out[i] >= first + nr);
			for (i = 0; i < got; i++)
				zd_pool_free(&pool, out[i]);
			zd_pool_return_idle(&pool, first, nr);
			break;
		}
		assert_int_equal(zd_pool_free_pages(&pool), count_free(model, 0, usable));
	}
	usable = PAGES;
	zd_pool_resize(&pool, usable);
	take(&pool, model, PAGES, out);
	assert_int_equal(count_free(model, 0, PAGES), 0);
	assert_int_equal(zd_pool_alloc(&pool, 1, 0, out), 0);
	assert_int_equal(zd_pool_idle_words(&pool), 0);
	zd_pool_exit(&pool);
}

static void runs_are_long_and_ascending(void **state)
{
	uint64_t out[256], i;
	struct zd_pool pool;

	(void)state;
	assert_int_equal(zd_pool_init(&pool, 64 * 64, ZD_POOL_RUNS, 100, false), 0);
	assert_int_equal(zd_pool_alloc(&pool, 100, 5000, out), 100);
	for (i = 0; i < 100; i++)
		assert_int_equal(out[i], 5000 + i);
	assert_int_equal(zd_pool_alloc(&pool, 100, 5000, out), 100);
	assert_int_equal(out[0], 5100);		/* goes on where it stopped */

	/* Use every second page of the first 50 words. */
	while (pool.cursor < 50 * 64)
		assert_int_equal(zd_pool_alloc(&pool, 1, 0, out), 1);
	for (i = 0; i < 50 * 64; i += 2)
		zd_pool_free(&pool, i);
	/* The whole words behind these come first, one run; then single pages. */
	for (i = 0; i < 14 * 64; i += 64) {
		assert_int_equal(zd_pool_alloc(&pool, 64, 0, out), 64);
		assert_int_equal(out[0], 50 * 64 + i);
		assert_int_equal(out[63], 50 * 64 + i + 63);
	}
	assert_int_equal(zd_pool_alloc(&pool, 3, 0, out), 3);
	assert_int_equal(out[0], 0);
	assert_int_equal(out[1], 2);
	assert_int_equal(out[2], 4);

	/* Around the end as well: a whole word at the start before single pages. */
	for (i = 0; i < 64; i++)
		if (zd_bits_test(&pool.used, i))
			zd_pool_free(&pool, i);
	pool.cursor = 10 * 64;
	assert_int_equal(zd_pool_alloc(&pool, 64, 0, out), 64);
	assert_int_equal(out[0], 0);
	assert_int_equal(out[63], 63);
	zd_pool_exit(&pool);
}

static void compact_uses_the_lowest_page(void **state)
{
	uint64_t out[256];
	struct zd_pool pool;

	(void)state;
	assert_int_equal(zd_pool_init(&pool, 4096, ZD_POOL_COMPACT, 100, false), 0);
	assert_int_equal(zd_pool_alloc(&pool, 200, 0, out), 200);
	zd_pool_free(&pool, 7);
	zd_pool_free(&pool, 150);
	assert_int_equal(zd_pool_alloc(&pool, 3, 0, out), 3);
	assert_int_equal(out[0], 7);
	assert_int_equal(out[1], 150);
	assert_int_equal(out[2], 200);
	zd_pool_exit(&pool);
}

static void idle_words_come_and_go(void **state)
{
	uint64_t out[64 * 40], first, i;
	struct zd_pool pool;
	unsigned int kicks = 0;

	(void)state;
	assert_int_equal(zd_pool_init(&pool, 64 * 64, ZD_POOL_RUNS, 3, false), 0);
	assert_int_equal(zd_pool_take_idle(&pool, 10, &first), 0);	/* never used */
	assert_int_equal(zd_pool_alloc(&pool, 64 * 40, 0, out), 64 * 40);
	for (i = 0; i < 63; i++)
		assert_false(zd_pool_free(&pool, i));
	assert_int_equal(zd_pool_idle_words(&pool), 0);
	zd_pool_free(&pool, 63);
	assert_int_equal(zd_pool_idle_words(&pool), 1);
	for (i = 64; i < 64 * 10; i++)
		kicks += zd_pool_free(&pool, i);
	assert_int_equal(kicks, 1);		/* once, when there were three */
	assert_int_equal(zd_pool_idle_words(&pool), 10);

	assert_int_equal(zd_pool_take_idle(&pool, 4, &first), 4 * 64);
	assert_int_equal(first, 0);
	assert_int_equal(zd_pool_idle_words(&pool), 6);
	zd_pool_return_idle(&pool, first, 4 * 64);
	assert_int_equal(zd_pool_idle_words(&pool), 6);	/* nothing to punch there */

	/* An allocated page makes its word not idle. */
	pool.cursor = 5 * 64;
	assert_int_equal(zd_pool_alloc(&pool, 1, 0, out), 1);
	assert_int_equal(out[0], 5 * 64);
	assert_int_equal(zd_pool_idle_words(&pool), 5);
	assert_int_equal(zd_pool_take_idle(&pool, 8, &first), 64);	/* word 4 alone */
	assert_int_equal(first, 4 * 64);
	zd_pool_return_idle(&pool, first, 64);
	assert_int_equal(zd_pool_idle_words(&pool), 4);
	/* Used and freed, the word is a candidate again. */
	pool.cursor = 4 * 64;
	assert_int_equal(zd_pool_alloc(&pool, 1, 0, out), 1);
	assert_int_equal(out[0], 4 * 64);
	zd_pool_free(&pool, 4 * 64);
	assert_int_equal(zd_pool_idle_words(&pool), 5);
	zd_pool_exit(&pool);
}

/* With @aging a word that has been idle for less than a period isn't taken. */
static void young_words_are_kept(void **state)
{
	uint64_t out[64 * 4], first, i;
	struct zd_pool pool;

	(void)state;
	assert_int_equal(zd_pool_init(&pool, 64 * 64, ZD_POOL_COMPACT, 100, true), 0);
	assert_int_equal(zd_pool_alloc(&pool, 64 * 4, 0, out), 64 * 4);
	for (i = 0; i < 64 * 2; i++)
		zd_pool_free(&pool, i);
	assert_int_equal(zd_pool_idle_words(&pool), 2);
	assert_int_equal(zd_pool_take_idle(&pool, 10, &first), 0);
	zd_pool_age(&pool);
	for (i = 64 * 2; i < 64 * 3; i++)
		zd_pool_free(&pool, i);
	/* used and idle again, the word is young again */
	assert_int_equal(zd_pool_alloc(&pool, 1, 0, out), 1);
	assert_int_equal(out[0], 0);
	assert_int_equal(zd_pool_idle_words(&pool), 2);
	zd_pool_free(&pool, 0);
	assert_int_equal(zd_pool_take_idle(&pool, 10, &first), 64);
	assert_int_equal(first, 64);
	zd_pool_return_idle(&pool, first, 64);
	assert_int_equal(zd_pool_take_idle(&pool, 10, &first), 0);
	zd_pool_age(&pool);
	assert_int_equal(zd_pool_take_idle(&pool, 10, &first), 64);
	assert_int_equal(first, 0);
	zd_pool_exit(&pool);
}

/* Words that are being punched must not make the device look full. */
static void an_eighth_stays_in_circulation(void **state)
{
	uint64_t out[64 * 16], first, i, nr;
	struct zd_pool pool;

	(void)state;
	assert_int_equal(zd_pool_init(&pool, 64 * 16, ZD_POOL_RUNS, 100, false), 0);
	assert_int_equal(zd_pool_alloc(&pool, 64 * 16, 0, out), 64 * 16);
	for (i = 0; i < 64 * 16; i++)
		zd_pool_free(&pool, i);
	nr = zd_pool_take_idle(&pool, 100, &first);
	assert_int_equal(nr, 64 * 14);
	assert_int_equal(zd_pool_free_pages(&pool), 64 * 2);
	assert_int_equal(zd_pool_take_idle(&pool, 100, &i), 0);
	zd_pool_return_idle(&pool, first, nr);
	assert_int_equal(zd_pool_take_idle(&pool, 100, &first), 64 * 2);
	assert_int_equal(first, 14 * 64);
	zd_pool_exit(&pool);
}

/* Four threads allocate and free pages, one punches; each page has a word that
 * says who owns it.  Broken looks like: two owners. */
#define THREADS 4
#define SHARED_PAGES 2048

static struct zd_pool shared;
static uint32_t owner[SHARED_PAGES];
static bool stop_punching;

static void own(uint64_t page, uint32_t from, uint32_t to)
{
	if (!__atomic_compare_exchange_n(&owner[page], &from, to, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE)) {
		fprintf(stderr, "page %llu belongs to %u, wanted by %u\n", (unsigned long long)page,
			from, to);
		abort();
	}
}

static void *churn(void *arg)
{
	uint32_t me = (uintptr_t)arg;
	uint64_t seed = me * 0x9e3779b97f4a7c15ULL, out[300];
	unsigned int round, got, i;

	for (round = 0; round < 3000; round++) {
		got = zd_pool_alloc(&shared, 1 + prng(&seed) % 300, 0, out);
		for (i = 0; i < got; i++)
			own(out[i], 0, me);
		for (i = 0; i < got; i++) {
			own(out[i], me, 0);
			zd_pool_free(&shared, out[i]);
		}
	}
	return NULL;
}

static void *puncher(void *arg)
{
	uint64_t first, nr, i;

	(void)arg;
	while (!__atomic_load_n(&stop_punching, __ATOMIC_RELAXED)) {
		nr = zd_pool_take_idle(&shared, 3, &first);
		for (i = first; i < first + nr; i++)
			own(i, 0, 99);
		for (i = first; i < first + nr; i++)
			own(i, 99, 0);
		if (nr)
			zd_pool_return_idle(&shared, first, nr);
	}
	return NULL;
}

static void threads_never_share_a_page(void **state)
{
	pthread_t thread[THREADS], punch;
	uintptr_t i;

	(void)state;
	assert_int_equal(zd_pool_init(&shared, SHARED_PAGES, ZD_POOL_RUNS, 8, false), 0);
	assert_int_equal(pthread_create(&punch, NULL, puncher, NULL), 0);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, churn, (void *)(i + 1)), 0);
	for (i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	__atomic_store_n(&stop_punching, true, __ATOMIC_RELAXED);
	pthread_join(punch, NULL);
	assert_int_equal(zd_pool_free_pages(&shared), SHARED_PAGES);
	zd_pool_exit(&shared);
}

/* 16 TiB: no loop over pages, and next to no memory. */
static void huge_pool_is_cheap(void **state)
{
	uint64_t out[3];
	struct zd_pool pool;

	(void)state;
	assert_int_equal(zd_pool_init(&pool, 1ULL << 32, ZD_POOL_RUNS, 8, false), 0);
	pool.cursor = (1ULL << 32) - 1;
	assert_int_equal(zd_pool_alloc(&pool, 3, 0, out), 3);
	assert_int_equal(out[0], (1ULL << 32) - 1);
	assert_int_equal(out[1], 0);
	zd_pool_exit(&pool);
}

static void double_free_aborts(void **state)
{
	struct zd_pool pool;
	uint64_t out;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(zd_pool_init(&pool, 100, ZD_POOL_RUNS, 8, false), 0);
	assert_int_equal(zd_pool_alloc(&pool, 1, 0, &out), 1);
	zd_pool_free(&pool, out);
	pid = fork();
	if (!pid) {
		close(STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		zd_pool_free(&pool, out);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	zd_pool_exit(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bits_find_what_a_scan_finds),
		{ "random_against_model(runs)", random_against_model, NULL, NULL,
		  (void *)ZD_POOL_RUNS },
		{ "random_against_model(compact)", random_against_model, NULL, NULL,
		  (void *)ZD_POOL_COMPACT },
		cmocka_unit_test(runs_are_long_and_ascending),
		cmocka_unit_test(compact_uses_the_lowest_page),
		cmocka_unit_test(idle_words_come_and_go),
		cmocka_unit_test(young_words_are_kept),
		cmocka_unit_test(an_eighth_stays_in_circulation),
		cmocka_unit_test(threads_never_share_a_page),
		cmocka_unit_test(huge_pool_is_cheap),
		cmocka_unit_test(double_free_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
