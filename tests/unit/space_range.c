/* SPDX-License-Identifier: MIT */
/* Managed ranges, beside a bitmap of pages that can't be wrong. */
#include "tests/unit/unit_test.h"

#include "base/alloc.h"
#include "space/range.h"

#define PAGES	256
#define AT(i)	((uint64_t)(i) << 12)

static bool model[PAGES];

/* Sorted, disjoint, merged, and the same pages. */
static void compare(const struct zd_ranges *r)
{
	uint64_t last = 0;
	size_t nr = 0;

	for (size_t i = 0; i < r->nr; i++) {
		assert_true(r->v[i].start < r->v[i].end);
		assert_true(i == 0 || r->v[i].start > last);
		last = r->v[i].end;
	}
	for (int p = 0; p < PAGES; p++) {
		const struct zd_range *found = zd_ranges_find(r, AT(p));
		size_t first = zd_ranges_first(r, AT(p));

		assert_int_equal(!!found, model[p]);
		if (found)
			assert_true(found->start <= AT(p) && AT(p) < found->end);
		assert_ptr_equal(zd_ranges_find(r, AT(p) + 4095), found);
		assert_true(first == r->nr || r->v[first].end > AT(p));
		assert_true(first == 0 || r->v[first - 1].end <= AT(p));
		nr += model[p] && (!p || !model[p - 1]);
	}
	assert_int_equal(r->nr, nr);
}

/* The gaps of [first, last), one after the other, are the pages that are in no range. */
static void compare_gaps(const struct zd_ranges *r, int first, int last)
{
	uint64_t start = AT(first), gap_end;
	int p = first;

	for (; zd_ranges_gap(r, &start, AT(last), &gap_end); start = gap_end) {
		for (; AT(p) < start; p++)
			assert_true(model[p]);
		for (; AT(p) < gap_end; p++)
			assert_false(model[p]);
		assert_true(p == last || model[p]);
	}
	for (; p < last; p++)
		assert_true(model[p]);
}

static void random_ops(void **state)
{
	uint32_t rng = test_seed() | 1;
	struct zd_ranges r = { 0 }, copy;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		int i = test_rand(&rng) % PAGES, nr = 1 + test_rand(&rng) % 12;
		bool add = test_rand(&rng) % 2;

		if (i + nr > PAGES)
			nr = PAGES - i;
		assert_int_equal((add ? zd_ranges_add : zd_ranges_remove)(&r, AT(i), AT(i + nr)),
				 0);
		for (int p = i; p < i + nr; p++)
			model[p] = add;
		compare(&r);
		compare_gaps(&r, i, i + nr + (PAGES - i - nr) / 2);
	}
	assert_int_equal(zd_ranges_copy(&copy, &r), 0);
	assert_int_equal(zd_ranges_remove(&r, 0, AT(PAGES)), 0);
	assert_int_equal(r.nr, 0);
	compare(&copy);
	zd_ranges_destroy(&copy);
	zd_ranges_destroy(&r);
	assert_int_equal(zd_ranges_copy(&copy, &r), 0);
	assert_int_equal(copy.nr, 0);
	zd_ranges_destroy(&copy);
	memset(model, 0, sizeof(model));
}

/* Out of memory: as it was. */
static void no_memory(void **state)
{
	struct zd_ranges r = { 0 }, copy;

	(void)state;
	zd_alloc_fail_nth(1);
	assert_int_equal(zd_ranges_add(&r, AT(0), AT(1)), -ENOMEM);
	assert_int_equal(r.nr, 0);
	for (int i = 0; r.nr < 32; i += 4) {	/* until it is full */
		assert_int_equal(zd_ranges_add(&r, AT(i), AT(i + 3)), 0);
		model[i] = model[i + 1] = model[i + 2] = true;
	}
	zd_alloc_fail_nth(1);
	assert_int_equal(zd_ranges_add(&r, AT(200), AT(201)), -ENOMEM);
	compare(&r);
	zd_alloc_fail_nth(1);
	assert_int_equal(zd_ranges_remove(&r, AT(1), AT(2)), -ENOMEM);	/* one becomes two */
	compare(&r);
	zd_alloc_fail_nth(1);
	assert_int_equal(zd_ranges_copy(&copy, &r), -ENOMEM);
	assert_int_equal(copy.nr, 0);
	zd_alloc_fail_nth(0);
	zd_ranges_destroy(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_ops),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
