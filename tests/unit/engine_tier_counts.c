/* SPDX-License-Identifier: MIT */
/*
 * Whatever happens to pages of several tiers, and in whichever order the devices answer, the
 * counts are those of the entries: of each tier, and of each address space.  What happens is random,
 * the same in each run of the test.
 */
#include "tests/unit/tiers_test.h"

#include "engine/demote.h"
#include "engine/fault.h"
#include "engine/fork.h"
#include "engine/tier.h"
#include "engine/tier_removal.h"

#define STEPS	400
#define SEEDS	60
#define LONGEST	16	/* pages that one step is about */

static uint64_t seed;
static struct zd_mm *child;

static unsigned int below(unsigned int n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 20) % n;
}

static uint64_t count(const struct zd_mm *m, const struct zd_tier *tier)
{
	uint64_t nr = 0;

	for (unsigned int i = 0; i < PAGES; i++) {
		zd_entry_t e = *zd_mm_entry(m, at(i));

		nr += zd_entry_state(e) == ZD_ENTRY_DEVICE &&
		      zd_server_tier_of(&server, zd_entry_val(e)) == tier;
	}
	return nr;
}

static void check(void)
{
	for (unsigned int t = 0; t < server.nr_tiers; t++) {
		const struct zd_tier *tier = server.tiers[t];
		uint64_t parents = count(mm, tier), children = child ? count(child, tier) : 0;

		assert_int_equal(mm->on_tier[tier->slot], parents);
		assert_int_equal(child ? child->on_tier[tier->slot] : 0, children);
		assert_int_equal(tier->nr_entries, parents + children);
	}
}

/* Pages of which nothing is known, from @i on. */
static unsigned int nr_free(const struct zd_mm *m, unsigned int i)
{
	unsigned int nr = 0;

	while (nr < LONGEST && i + nr < PAGES && !*zd_mm_entry(m, at(i + nr)))
		nr++;
	return nr;
}

static void move(struct zd_mm *m, unsigned int from, unsigned int to, unsigned int nr)
{
	if (nr_free(m, to) < nr || from + nr > PAGES || (to < from + nr && from < to + nr))
		return;
	zd_mm_remap(m, at(from), at(to), nr * ZD_PAGE_SIZE);
	assert_int_equal(zd_mm_adopt(m, at(from), at(from + nr)), 0);
}

static void fork_or_end(void)
{
	if (child) {
		zd_mm_destroy(child);
		child = NULL;
		return;
	}
	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), mm, &child), 0);
	assert_int_equal(zd_uffd_api(zd_mm_uffd(child), ZD_UFFD_FEATURES), 0);
	assert_int_equal(zd_mm_adopt(child, at(0), at(PAGES)), 0);
	zd_mm_born(mm, child);
}

/* One of the batches that the device has, any. */
static void answer(struct stub *s)
{
	struct zd_device_io *io;
	unsigned int i;

	if (!s->nr_held)
		return;
	i = below(s->nr_held);
	io = s->held[i];
	s->held[i] = s->held[--s->nr_held];
	complete(s, io);
}

/* A page that is, or was, away: else there is nothing to bring. */
static void touch(unsigned int i)
{
	zd_entry_t e = *zd_mm_entry(mm, at(i));

	if (zd_entry_state(e) == ZD_ENTRY_DEVICE || e & ZD_ENTRY_LOCK)
		zd_fault(mm, at(i), 0, 0);
}

static void removal(unsigned int t)
{
	struct zd_tier_removal r = { .dev = server.tiers[t]->dev };
	int rc;

	for (unsigned int i = below(4); i--;)
		zd_tier_removal_step(&server, &r, &rc);
	zd_tier_removal_cancel(&server, &r);
}

static void step(void)
{
	unsigned int i = below(PAGES), nr = 1 + below(LONGEST);
	struct stub *s = &stub[below(STUBS)];
	struct zd_mm *m = child && below(2) ? child : mm;

	for (unsigned int k = 0; k < STUBS; k++)
		if (stub[k].nr_held > HELD / 2)
			let_go(&stub[k]);
	switch (below(14)) {
	case 0 ... 3:
		nr = nr_free(mm, i) < nr ? nr_free(mm, i) : nr;
		if (nr)
			start_out(i, nr);
		break;
	case 4:
		touch(i);
		break;
	case 5:
		zd_mm_drop(m, at(i), at(i + nr < PAGES ? i + nr : PAGES));
		break;
	case 6:
		move(m, i, below(PAGES), nr);
		break;
	case 7:
		if (!below(4))
			fork_or_end();
		break;
	case 8:
		s->hold = !s->hold;
		break;
	case 9:
	case 10:
		answer(s);
		break;
	case 11:
		s->read_error = below(4) ? 0 : -EIO;
		break;
	case 12:
		if (!child)	/* it has no memory for pages to come home to */
			removal(below(STUBS));
		break;
	default:
		server.tiers[below(2)]->demote_after_ns = 0;
		zd_server_demote(&server);
	}
	check();
}

static void counts_are_right(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	add(PAGES);
	child = NULL;
	may_log = true;
	server.limit = 1 << 20;
	a->ram_pages = b->ram_pages = 1 << 20;
	a->every = 3;
	for (unsigned int i = 0; i < STEPS; i++)
		step();
	for (unsigned int i = 0; i < STUBS; i++)
		let_go(&stub[i]);
	check();
	if (child)
		fork_or_end();
	zd_mm_drop(mm, at(0), at(PAGES));
	zd_flush_delayed_puts(&server);
	for (unsigned int i = 0; i < STUBS; i++) {
		assert_int_equal(stub[i].nr_taken, 0);
		assert_int_equal(zd_device_live_pages(&stub[i].dev), 0);
	}
}

int main(void)
{
	struct CMUnitTest tests[SEEDS];

	for (unsigned int i = 0; i < SEEDS; i++)
		tests[i] = (struct CMUnitTest)TEST(counts_are_right);
	seed = 88172645463325252;
	return run_all(tests, SEEDS);
}
