/* SPDX-License-Identifier: MIT */
/* Quantiles of the latency histogram, beside those of the sorted samples. */
#include "tests/unit/unit_test.h"

#include "engine/stats.h"

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void empty(void **state)
{
	struct zd_histogram h = { 0 };

	(void)state;
	assert_int_equal(zd_hist_quantile(&h, 0.5), 0);
	zd_hist_add(&h, 0, 1);
	assert_int_equal(zd_hist_quantile(&h, 0), 0);
	assert_int_equal(zd_hist_quantile(&h, 1), 0);
}

/* A single value is told exactly (the largest is known), two to an eighth. */
static void edges(void **state)
{
	(void)state;
	for (uint64_t v = 1; v < UINT64_C(1) << 40; v += 1 + v / 3) {
		struct zd_histogram h = { 0 };
		uint64_t q;

		zd_hist_add(&h, v, 1);
		assert_int_equal(zd_hist_quantile(&h, 0.5), v);
		assert_int_equal(zd_hist_quantile(&h, 1), v);
		zd_hist_add(&h, UINT64_C(1) << 50, 1);
		q = zd_hist_quantile(&h, 0);
		assert_true(q >= v && q <= v + v / 8);
		assert_int_equal(h.count, 2);
		assert_int_equal(h.max, UINT64_C(1) << 50);
	}
}

static void quantiles(void **state)
{
	enum { N = 10000 };
	static uint64_t v[N];
	uint32_t rng = test_seed() | 1;
	static const double qs[] = { 0, 0.01, 0.5, 0.9, 0.99, 0.999 };

	(void)state;
	for (int round = 0; round < 20; round++) {
		struct zd_histogram h = { 0 };

		for (int i = 0; i < N; i++) {
			v[i] = (uint64_t)test_rand(&rng) >> (test_rand(&rng) % 32);
			zd_hist_add(&h, v[i], 1);
		}
		qsort(v, N, sizeof(v[0]), by_size);
		for (size_t k = 0; k < sizeof(qs) / sizeof(qs[0]); k++) {
			uint64_t want = v[(int)(qs[k] * N)], got = zd_hist_quantile(&h, qs[k]);

			assert_true(got >= want && got <= want + want / 8);
		}
		assert_int_equal(zd_hist_quantile(&h, 1), v[N - 1]);
		assert_int_equal(h.max, v[N - 1]);
	}
}

/* Far too long is still counted. */
static void beyond(void **state)
{
	struct zd_histogram h = { 0 };

	(void)state;
	for (int i = 0; i < 10; i++)
		zd_hist_add(&h, UINT64_MAX - i, 1);
	zd_hist_add(&h, 5, 1);
	assert_int_equal(h.count, 11);
	assert_int_equal(zd_hist_quantile(&h, 0), 5);
	assert_true(zd_hist_quantile(&h, 0.5) > UINT64_C(1) << 40);
}

/* Every fault at first, then one for ZD_TIMED_EACH: the quantiles are those of
 * all, whatever the first were like. */
static void sampled(void **state)
{
	struct zd_stats s = { 0 };
	unsigned int timed = 0;

	(void)state;
	while (s.c.faults < ZD_TIMED_FIRST + 1600 * ZD_TIMED_EACH) {
		bool slow = ++s.c.faults <= ZD_TIMED_FIRST;

		if (!zd_stats_timed(&s))
			continue;
		timed++;
		zd_hist_add(&s.latency, slow ? 1000000 : 1000, zd_stats_weight(&s));
	}
	assert_int_equal(timed, ZD_TIMED_FIRST + 1600);
	assert_int_equal(s.latency.count, s.c.faults);
	assert_true(zd_hist_quantile(&s.latency, 0.95) < 2000);
	assert_true(zd_hist_quantile(&s.latency, 0.97) > 500000);
	assert_int_equal(s.latency.max, 1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty),  cmocka_unit_test(edges),   cmocka_unit_test(quantiles),
		cmocka_unit_test(beyond), cmocka_unit_test(sampled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
