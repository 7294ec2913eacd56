/* SPDX-License-Identifier: MIT */
/* The allocator of the lz4 device: what it wastes, and that an object stays what it was. */
#include "unit_test.h"

#include "drivers/lz4/objects.h"

#define MAX_PAGES	32768
#define MAX_OBJECTS	40000

static struct zd_lz4_objects o;

static struct object {
	uint64_t place;		/* ZD_LZ4_NO_PLACE: there is none */
	unsigned int bytes;
	unsigned char fill;
} object[MAX_OBJECTS];

static uint64_t stored;		/* bytes of all objects */
static uint32_t seed = 2463534242;

static int setup(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < MAX_OBJECTS; i++)
		object[i].place = ZD_LZ4_NO_PLACE;
	stored = 0;
	return zd_lz4_objects_init(&o, MAX_PAGES);
}

static int teardown(void **state)
{
	(void)state;
	zd_lz4_objects_exit(&o);
	return 0;
}

static bool is_right(const struct object *ob)
{
	const unsigned char *p = zd_lz4_object(&o, ob->place);

	for (unsigned int i = 0; i < ob->bytes; i++)
		if (p[i] != ob->fill)
			return false;
	return true;
}

static bool add(uint32_t i, unsigned int bytes)
{
	struct object *ob = &object[i];

	*ob = (struct object){ zd_lz4_object_get(&o, bytes, i), bytes, test_rand(&seed) };
	if (ob->place == ZD_LZ4_NO_PLACE)
		return false;
	memset(zd_lz4_object(&o, ob->place), ob->fill, bytes);
	stored += bytes;
	return true;
}

static void del(uint32_t i)
{
	assert_true(is_right(&object[i]));
	zd_lz4_object_put(&o, object[i].place);
	stored -= object[i].bytes;
	object[i].place = ZD_LZ4_NO_PLACE;
}

static void moved(void *arg, uint32_t owner, uint64_t place)
{
	(void)arg;
	assert_true(owner < MAX_OBJECTS);
	assert_true(object[owner].place != ZD_LZ4_NO_PLACE);
	object[owner].place = place;
}

static void all_right(void)
{
	for (unsigned int i = 0; i < MAX_OBJECTS; i++)
		if (object[i].place != ZD_LZ4_NO_PLACE)
			assert_true(is_right(&object[i]));
}

/* What pages compress to: most to between a fifth and two thirds, some to nearly nothing. */
static unsigned int some_size(void)
{
	unsigned int n = test_rand(&seed) % 10;

	if (n == 0)
		return 20 + test_rand(&seed) % 180;
	if (n == 1)
		return 2800 + test_rand(&seed) % (ZD_LZ4_OBJECT_MAX - 2800);
	return 800 + test_rand(&seed) % 1000 + test_rand(&seed) % 1000;
}

static void tidy(void)
{
	struct zd_lz4_run run;

	while (zd_lz4_objects_compact(&o, 16, moved, NULL))
		;
	while ((run = zd_lz4_objects_take_empty(&o)).pages)
		zd_lz4_objects_release(&o, run);
	assert_int_equal(o.empty_pages, 0);
	assert_int_equal(o.sparse_pages, 0);
}

static void each_size_has_a_close_class(void **state)
{
	double lost = 0, nr = 0;

	(void)state;
	for (unsigned int i = 0; i < o.nr_classes; i++) {
		const struct zd_lz4_class *c = &o.class[i];
		unsigned int bytes = c->pages * ZD_PAGE_SIZE;

		assert_true(c->size % ZD_LZ4_ALIGN == 0 && c->slots && c->pages);
		assert_true(i == 0 || c->size > o.class[i - 1].size);
		/* what no slot has is a thirtieth of the span at most */
		assert_true((bytes - c->size * c->slots) * 30 <= bytes);
	}
	assert_int_equal(o.class[o.nr_classes - 1].size, ZD_LZ4_SLOT_MAX);
	for (unsigned int bytes = 256; bytes <= ZD_LZ4_OBJECT_MAX; bytes++, nr++) {
		unsigned int size = o.class[o.class_of[(bytes + 4 + 15) / 16]].size;

		assert_true(size >= bytes + 4);
		assert_true(size * 10 <= (bytes + 4) * 11 + 160);
		lost += (double)(size - bytes) / size;
	}
	assert_true(lost / nr < 0.04);
}

/* The lz4 device promises 15 %.  Broken looks like: memory that was freed stays with classes
 * that don't need it. */
static void little_is_wasted_after_churn(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < MAX_OBJECTS; i++)
		assert_true(add(i, some_size()));
	assert_true(stored > o.pages * ZD_PAGE_SIZE * 0.92);
	for (unsigned int round = 0; round < 5; round++) {
		/* three quarters go, at random; then other sizes come */
		for (unsigned int i = 0; i < MAX_OBJECTS; i++)
			if (object[i].place != ZD_LZ4_NO_PLACE && test_rand(&seed) % 4)
				del(i);
		assert_true(stored < o.pages * ZD_PAGE_SIZE * 0.7);
		tidy();
		assert_true(stored > o.pages * ZD_PAGE_SIZE * 0.85);
		all_right();
		for (unsigned int i = 0; i < MAX_OBJECTS; i++)
			if (object[i].place == ZD_LZ4_NO_PLACE && test_rand(&seed) % 2)
				assert_true(add(i, some_size() / (1 + round % 3) + 1));
	}
	all_right();
	assert_true(o.moves > 0);
}

static void pages_go_back(void **state)
{
	long before = rss();

	(void)state;
	for (unsigned int i = 0; i < MAX_OBJECTS; i++)
		assert_true(add(i, 2000));
	if (!SANITIZED)
		assert_true(rss() - before >= (long)(o.pages * ZD_PAGE_SIZE));
	for (unsigned int i = 0; i < MAX_OBJECTS; i++)
		del(i);
	tidy();
	assert_int_equal(o.pages, 0);
	if (!SANITIZED)
		assert_true(rss() - before < 8 << 20);
}

/* Full is full; what has become empty of one class is another's. */
static void the_limit_is_kept(void **state)
{
	unsigned int nr = 0;

	(void)state;
	o.max_pages = 1000;
	while (add(nr, 3000))
		nr++;
	assert_in_range(o.pages, 1000 - ZD_LZ4_SPAN_PAGES, 1000);
	assert_true(nr >= 1000 * ZD_PAGE_SIZE / 3300);
	for (unsigned int i = 0; i < nr; i++)
		del(i);
	for (nr = 0; add(nr, 3000); nr++)
		;
	assert_true(nr >= 1000 * ZD_PAGE_SIZE / 3300);
}

/* Whatever the tables say, the objects that are told of are kept, and nothing else. */
static void tables_are_made_anew(void **state)
{
	uint64_t pages, sparse, empty;

	(void)state;
	for (unsigned int i = 0; i < 5000; i++)
		assert_true(add(i, some_size()));
	for (unsigned int i = 0; i < 5000; i++)
		if (test_rand(&seed) % 3)
			del(i);
	pages = o.pages;
	sparse = o.sparse_pages;
	empty = o.empty_pages;
	o.sparse_pages = 12345;
	memset(o.class[30].group, 0xee, sizeof(o.class[30].group));
	zd_lz4_objects_forget(&o);
	for (unsigned int i = 0; i < 5000; i++)
		if (object[i].place != ZD_LZ4_NO_PLACE)
			zd_lz4_objects_keep(&o, object[i].place);
	zd_lz4_objects_sort(&o);
	assert_int_equal(o.pages, pages);
	assert_int_equal(o.sparse_pages, sparse);
	assert_int_equal(o.empty_pages, empty);
	for (unsigned int i = 0; i < 5000; i++)
		if (object[i].place == ZD_LZ4_NO_PLACE)
			assert_true(add(i, some_size()));
	all_right();
	for (unsigned int i = 0; i < 5000; i++)
		del(i);
	tidy();
	assert_int_equal(o.pages, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(each_size_has_a_close_class), T(little_is_wasted_after_churn), T(pages_go_back),
		T(the_limit_is_kept),		T(tables_are_made_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
