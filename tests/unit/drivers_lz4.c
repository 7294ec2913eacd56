/* SPDX-License-Identifier: MIT */
/* The lz4 device: contents of all kinds, and what it refuses. */
#include "drivers_lz4.h"

static int setup_hc(void **state)
{
	(void)state;
	return setup_level(9);
}

static bool is_noise(enum contents kind)
{
	return kind == CONTENTS_RANDOM || kind == CONTENTS_NUMBERS;
}

static bool nothing(void)
{
	return stat_of("pages_same") + stat_of("pages_compressed") == 0;
}

/* Batches of @batch pages: small ones are run in ->submit, others by the worker. */
static void round_trip(unsigned int batch)
{
	unsigned int nr = 1024 / batch * batch, refused = 0;

	have_pages(nr);
	for (unsigned int i = 0; i < nr; i++)
		contents_fill(pages[i].buf, contents_of(i), i);
	for (unsigned int i = 0; i < nr; i += batch)
		do_io(dev, ZD_TO_DEVICE, pages + i, batch);
	for (unsigned int i = 0; i < nr; i++) {
		/* noise and nothing else is refused, each page alone */
		assert_int_equal(pages[i].error, is_noise(contents_of(i)) ? -ENOSPC : 0);
		refused += pages[i].error != 0;
	}
	assert_int_equal(stat_of("incompressible"), refused);
	assert_int_equal(stat_of("pages_same") + stat_of("pages_compressed"), nr - refused);
	memset(mem, 0xee, nr * ZD_PAGE_SIZE);
	for (unsigned int i = 0; i < nr; i += batch)
		do_io(dev, ZD_FROM_DEVICE, pages + i, batch);
	for (unsigned int i = 0; i < nr; i++) {
		/* never zeros, nor what was there before */
		assert_int_equal(pages[i].error, is_noise(contents_of(i)) ? -EIO : 0);
		if (!pages[i].error)
			assert_true(holds(&pages[i], contents_of(i), i));
	}
	give_pages(0, nr);
	wait_for(nothing);
}

static void one_by_one(void **state)
{
	(void)state;
	round_trip(1);
}

static void in_large_batches(void **state)
{
	(void)state;
	round_trip(128);
}

/* A page that is stored again is as the last store says, whatever it was. */
static void stored_again(void **state)
{
	uint64_t seed = 7;

	(void)state;
	have_pages(64);
	for (unsigned int round = 0; round < 200; round++) {
		unsigned int i = prng(&seed) % 64;
		enum contents kind = contents_of(prng(&seed) % 20);

		contents_fill(pages[i].buf, kind, round);
		do_io(dev, ZD_TO_DEVICE, pages + i, 1);
		assert_int_equal(pages[i].error, is_noise(kind) ? -ENOSPC : 0);
		memset(pages[i].buf, 0xee, ZD_PAGE_SIZE);
		do_io(dev, ZD_FROM_DEVICE, pages + i, 1);
		assert_int_equal(pages[i].error, is_noise(kind) ? -EIO : 0);
		if (!is_noise(kind))
			assert_true(holds(&pages[i], kind, round));
	}
	give_pages(0, 64);
	wait_for(nothing);
}

/* Any word of 8 bytes, not only zeros. */
static void a_repeated_word_takes_no_pool(void **state)
{
	(void)state;
	have_pages(NR);
	for (unsigned int i = 0; i < NR; i++)
		contents_fill(pages[i].buf, i % 2 ? CONTENTS_SAME : CONTENTS_ZERO, i);
	do_io_ok(dev, ZD_TO_DEVICE, pages, NR);
	assert_int_equal(stat_of("pages_same"), NR);
	assert_int_equal(stat_of("pool_bytes"), 0);
	assert_in_range(dev->ops->ram_bytes(dev), NR * 8, NR * 16 + 2 * ZD_PAGE_SIZE);
	memset(mem, 0xee, NR * ZD_PAGE_SIZE);
	do_io_ok(dev, ZD_FROM_DEVICE, pages, NR);
	for (unsigned int i = 0; i < NR; i++)
		assert_true(holds(&pages[i], i % 2 ? CONTENTS_SAME : CONTENTS_ZERO, i));
	give_pages(0, NR);
}

/* max= is a limit; what is over it is refused page by page, and then no page is given out. */
static void full_is_answered(void **state)
{
	enum { MANY = 4096 };
	struct zd_device *small;
	unsigned int stored = 0, before;

	(void)state;
	assert_int_equal(zd_lz4_device_create(2 << 20, 0, &small), 0);
	assert_int_equal(small->ops->alloc_pages(small, MANY, pfns), MANY);
	set_pages(pages, pfns, MANY, mem);
	for (unsigned int i = 0; i < MANY; i++)
		contents_fill(pages[i].buf, CONTENTS_HEAP, i);
	do_io(small, ZD_TO_DEVICE, pages, MANY);
	for (unsigned int i = 0; i < MANY; i++) {
		assert_true(pages[i].error == 0 || pages[i].error == -ENOSPC);
		stored += !pages[i].error;
	}
	assert_in_range(stored, 600, MANY - 1000);
	assert_in_range(small->ops->ram_bytes(small), 15 << 17, (2 << 20) + (256 << 10));
	assert_int_equal(small->ops->alloc_pages(small, 1, &(zd_pfn_t){ 0 }), 0);
	before = stored;
	/* room again */
	small->ops->unalloc_pages(small, MANY, pfns);
	assert_int_equal(small->ops->alloc_pages(small, MANY, pfns), MANY);
	set_pages(pages, pfns, MANY, mem);
	do_io(small, ZD_TO_DEVICE, pages, MANY);
	for (unsigned int i = stored = 0; i < MANY; i++)
		stored += !pages[i].error;
	assert_in_range(stored, before * 9 / 10, MANY);
	small->ops->unalloc_pages(small, MANY, pfns);
	assert_int_equal(zd_device_unregister(small), 0);
}

static void wrong_arguments(void **state)
{
	struct zd_device *none;

	(void)state;
	assert_int_equal(zd_lz4_device_create((2 << 20) - 1, 1, &none), -EINVAL);
	assert_int_equal(zd_lz4_device_create(UINT64_C(2) << 40, 1, &none), -EINVAL);
	assert_int_equal(zd_lz4_device_create(0, 13, &none), -EINVAL);
	assert_int_equal(zd_lz4_device_create(0, -1, &none), -EINVAL);
}

#define HC(fn) { #fn " (HC)", fn, setup_hc, teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(one_by_one),	     T(in_large_batches),
		HC(one_by_one),	     HC(in_large_batches),
		T(stored_again),     T(a_repeated_word_takes_no_pool),
		T(full_is_answered), cmocka_unit_test(wrong_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
