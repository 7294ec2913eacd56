/* SPDX-License-Identifier: MIT */
/* A device of a server is removed: its pages go to the others, or home. */
#include "tests/unit/tiers_test.h"

#include "engine/delayed_put.h"
#include "engine/entries.h"
#include "engine/tier_removal.h"

/* --- removal --- */

static int take_away(struct stub *s)
{
	struct zd_tier_removal r = { .dev = &s->dev };
	enum zd_cmd_result result;
	int rc;

	for (unsigned int i = 0; i < 10000; i++) {
		result = zd_tier_removal_step(&server, &r, &rc);
		zd_flush_delayed_puts(&server);
		if (result == ZD_CMD_DONE)
			return rc;
		if (result == ZD_CMD_WAIT)
			for (unsigned int k = 0; k < STUBS; k++)
				let_go(&stub[k]);
	}
	fail_msg("a removal that doesn't end");
	return -1;
}

static void detach(struct stub *s)
{
	assert_int_equal(zd_device_live_pages(&s->dev), 0);
	zd_server_detach(&server, &s->dev);
	assert_int_equal(zd_device_unregister(&s->dev), 0);
	free(s->memory);
	s->dev.ops = NULL;
}

/* @which of three tiers goes, all others have room. */
static void remove_one(unsigned int which)
{
	struct stub *s[] = { add(100), add(100), add(300) };

	out(0, 250);
	assert_int_equal(nr_on(s[which]), which == 2 ? 50 : 100);
	zd_mm_drop(mm, at(0), at(60));
	zd_mm_drop(mm, at(100), at(110));
	s[which]->hold = true;
	assert_int_equal(take_away(s[which]), 0);
	assert_int_equal(nr_on(s[which]), 0);
	assert_int_equal(mm->nr_device, 180);
	/* the next below, as far as it has room; from the last, the first above */
	assert_int_equal(nr_on(s[0]), which == 0 ? 0 : which == 1 ? 40 : 90);
	assert_int_equal(nr_on(s[1]), which == 0 ? 100 : which == 1 ? 0 : 90);
	detach(s[which]);
	assert_int_equal(server.nr_tiers, 2);
	if (which == 0)
		zd_mm_drop(mm, at(110), at(120));
	/* the others go on */
	out(0, 10);
	assert_int_equal(nr_on(&stub[0]) + nr_on(&stub[1]) + nr_on(&stub[2]), mm->nr_device);
	assert_int_equal(mm->nr_device, which == 0 ? 180 : 190);
}

static void remove_first(void **state)
{
	(void)state;
	remove_one(0);
}

/* Both of two, the last one first. */
static void remove_all(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	out(0, 150);
	assert_int_equal(take_away(b), 0);
	/* above there is no room: home */
	assert_int_equal(nr_on(a), 100);
	for (unsigned int i = 100; i < 150; i++)
		is_home(i);
	detach(b);
	assert_int_equal(take_away(a), 0);
	assert_int_equal(mm->nr_device, 0);
	assert_true(server.tiers[0]->removing);
	detach(a);
	assert_int_equal(server.nr_tiers, 0);
}

static void remove_middle(void **state)
{
	(void)state;
	remove_one(1);
}

static void remove_last(void **state)
{
	(void)state;
	remove_one(2);
}

/* What can't be read calls the removal off, and all else stays as it is. */
static void removal_called_off(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	may_log = true;
	out(0, 50);
	a->read_error = -EIO;
	a->every = 10;
	assert_int_equal(take_away(a), -EIO);
	assert_int_equal(nr_on(a), 5);
	assert_int_equal(nr_on(b), 45);
	assert_false(server.tiers[0]->removing);
	a->read_error = 0;
	assert_int_equal(take_away(a), 0);
	assert_int_equal(nr_on(b), 50);
	/* a page that no other device takes comes home */
	a->write_error = -EIO;
	a->every = 0;
	server.tiers[0]->removing = false;
	assert_int_equal(take_away(b), 0);
	for (unsigned int i = 0; i < 50; i++)
		is_home(i);
	assert_int_equal(a->nr_taken + b->nr_taken, 0);
}

/* A batch on its way to a device that is being removed goes to the next. */
static void removed_in_flight(void **state)
{
	struct stub *a = add(100), *b = add(100);
	struct zd_tier_removal r = { .dev = &a->dev };
	int rc;

	(void)state;
	a->hold = true;
	out(0, 20);
	assert_int_equal(zd_tier_removal_step(&server, &r, &rc), ZD_CMD_WAIT);
	let_go(a);
	assert_int_equal(zd_tier_removal_step(&server, &r, &rc), ZD_CMD_DONE);
	assert_int_equal(rc, 0);
	assert_int_equal(nr_on(b), 20);
	/* and nothing new goes there */
	assert_false(zd_tier_may_take(&server, server.tiers[0]));
	zd_tier_removal_cancel(&server, &r);
	assert_true(zd_tier_may_take(&server, server.tiers[0]));
}

/* Memory runs out at each allocation in turn: the removal ends, and no page is lost. */
static void removal_without_memory(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);
	int rc;

	(void)state;
	may_log = true;
	for (unsigned int nth = 1, first = 0; nth < 6; nth++, first += 150) {
		out(first, 150);
		server.tiers[0]->removing = false;
		zd_migs_free_spares(&server);
		zd_alloc_fail_nth(nth);
		rc = take_away(a);
		zd_alloc_fail_nth(0);
		assert_true(!rc || rc == -ENOMEM);
		assert_true(rc || !nr_on(a));
		for (unsigned int i = first; i < first + 150; i++)
			if (!where(i))
				is_home(i);
		if (rc)
			zd_mm_drop(mm, at(first), at(first + 150));
		server.tiers[0]->removing = false;
	}
	assert_true(nr_on(b) > 0);
}

/* In a program pages may be malloc's own: they go to no driver that may call malloc, unless they
 * are on such a one. */
static void no_malloc(void **state)
{
	static struct zd_device_ops ops;
	struct stub *a = add(100), *b = add(100);

	(void)state;
	ops = stub_ops;
	ops.flags = ZD_DEVICE_NO_MALLOC;
	server.in_program = true;
	out(0, 10);
	a->dev.ops = &ops;
	assert_int_equal(take_away(a), 0);
	for (unsigned int i = 0; i < 10; i++)
		is_home(i);
	server.tiers[0]->removing = false;
	out(10, 10);
	b->dev.ops = &ops;
	assert_int_equal(take_away(a), 0);
	assert_int_equal(nr_on(b), 10);
	server.tiers[0]->removing = false;
	a->dev.ops = &stub_ops;
	b->dev.ops = &stub_ops;
	out(20, 10);
	assert_int_equal(take_away(a), 0);
	assert_int_equal(nr_on(b), 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(remove_first),	      TEST(remove_all),
		TEST(remove_middle),	      TEST(remove_last),
		TEST(removal_called_off),     TEST(removed_in_flight),
		TEST(removal_without_memory), TEST(no_malloc),
	};

	return run_all(tests, sizeof(tests) / sizeof(tests[0]));
}
