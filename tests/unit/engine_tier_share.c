/* SPDX-License-Identifier: MIT */
/* The share of RAM of a tier that keeps its contents there follows what faults say of it. */
#include "tests/unit/tiers_test.h"

#include "engine/tier.h"
#include "engine/tier_share.h"

#define LIMIT	64000
#define USED	10000	/* pages of RAM that the first tier takes */

static struct stub *lz, *below;

static uint64_t share(void)
{
	return zd_tier_ram_share(&server, zd_server_find_tier(&server, &lz->dev));
}

/* @n pages come home from @s, each after @distance evictions. */
static void home_from(struct stub *s, uint64_t distance, unsigned int n)
{
	zd_entry_t entry = zd_entry_device(s->dev.pgmap.pfn, zd_lru_age(&server.lru));

	server.lru.clock += distance;
	while (n--)
		zd_server_weigh_shares(&server, entry);
}

static void two_tiers(void)
{
	lz = add(PAGES);
	below = add(PAGES);
	server.limit = LIMIT;
	lz->ram_pages = USED;
	assert_int_equal(share(), LIMIT / 2);
}

/* The pages below would have stayed, had the tier not taken the RAM. */
static void shrinks_for_near_faults_below(void **state)
{
	(void)state;
	two_tiers();
	home_from(below, USED / 2, 1);
	/* what the tier doesn't use isn't its to give back */
	assert_in_range(share(), USED, USED + USED / 8);
	home_from(below, USED / 2, USED / 4);
	assert_in_range(share(), USED - USED / 4, USED);
	home_from(below, USED / 2, USED);
	assert_int_equal(share(), LIMIT / 32);
}

static void far_faults_below_tell_nothing(void **state)
{
	(void)state;
	two_tiers();
	home_from(below, 2 * USED, 1000);
	assert_int_equal(share(), LIMIT / 2);
}

/* A far page from the tier has saved most of a read from the tier below; a near one has cost
 * little. */
static void grows_by_what_it_saves(void **state)
{
	uint64_t low, high;

	(void)state;
	two_tiers();
	home_from(below, USED / 2, 2 * USED);
	low = share();
	home_from(lz, 2 * USED, 4000);
	high = share();
	assert_in_range(high, low + 3000, low + 4000);
	home_from(lz, USED / 2, 4000);
	assert_in_range(share(), high - 1000, high - 400);
	home_from(lz, 2 * USED, 10 * LIMIT);
	assert_int_equal(share(), LIMIT / 2);
}

/* A share beyond half of a smaller limit is cut, and without a limit there is none. */
static void the_limit_may_change(void **state)
{
	(void)state;
	two_tiers();
	home_from(below, USED / 2, USED / 2);
	server.limit = 1600;
	assert_int_equal(share(), 800);
	server.limit = 0;
	assert_true(share() > LIMIT);
	home_from(below, 0, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(shrinks_for_near_faults_below),
		TEST(far_faults_below_tell_nothing),
		TEST(grows_by_what_it_saves),
		TEST(the_limit_may_change),
	};

	return run_all(tests, sizeof(tests) / sizeof(tests[0]));
}
