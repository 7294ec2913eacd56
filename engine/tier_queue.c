/* SPDX-License-Identifier: MIT */
/* A tier's queue; the mechanism is told in tier_queue.h. */
#include "base/time.h"
#include "engine/shift.h"
#include "engine/tier.h"
#include "engine/tier_queue.h"

#define LOOK_RUNS	256	/* in one call */
#define WALK_ENTRIES	4096	/* so many */
#define WALK_PAUSE_NS	1000000000ull

static struct zd_mm *mm_of(const struct zd_server *server, const struct zd_run *run)
{
	unsigned int slot = zd_run_slot(run);
	struct zd_mm *mm = slot < server->nr_slots ? server->slots[slot] : NULL;

	return mm && !mm->dead ? mm : NULL;
}

/* Can the page of entry @e be taken from @tier? */
static bool may_take(const struct zd_server *server, const struct zd_tier *tier, zd_entry_t e)
{
	return zd_entry_state(e) == ZD_ENTRY_DEVICE && !(e & ZD_ENTRY_LOCK) &&
	       zd_server_tier_of(server, zd_entry_val(e)) == tier &&
	       zd_page_count(zd_pfn_to_page(zd_entry_val(e))) == 1;
}

/* Does the page at @addr still belong to @run? */
static bool in_run(const struct zd_server *server, const struct zd_tier *tier,
		   const struct zd_mm *mm, const struct zd_run *run, uint64_t addr)
{
	const zd_entry_t *entry = zd_table_lookup(&mm->table, addr);

	return entry && may_take(server, tier, *entry) &&
	       zd_entry_age(*entry) == zd_run_number(run);
}

static bool is_leftover(const struct zd_server *server, const struct zd_tier *tier,
			const struct zd_run *run)
{
	const struct zd_mm *mm = mm_of(server, run);

	for (unsigned int i = 0; mm && i < zd_run_nr(run); i++)
		if (in_run(server, tier, mm, run, zd_run_addr(run) + i * ZD_PAGE_SIZE))
			return false;
	return true;
}

/* Amortised over the cost of entering the leftovers. */
static void sweep(const struct zd_server *server, struct zd_tier *tier)
{
	uint64_t todo = tier->queue.runs;
	struct zd_run run;

	while (todo-- && zd_fifo_peek(&tier->queue, &run)) {
		zd_fifo_pop(&tier->queue);
		if (!is_leftover(server, tier, &run))
			zd_fifo_push(&tier->queue, &run);	/* -ENOMEM: a walk finds it */
	}
}

/* Make the page at @addr part of @tier's newest run, or a run.  (-ENOMEM: a walk finds it.) */
static void push(struct zd_tier *tier, const struct zd_mm *mm, uint64_t addr, zd_entry_t e)
{
	struct zd_run *tail = zd_fifo_tail(&tier->queue);
	struct zd_run run = { .addr = addr, .id = zd_entry_age(e) | (uint64_t)mm->slot << 48 };

	if (tail && tail->id == run.id && zd_run_nr(tail) < ZD_RUN_MAX &&
	    zd_run_addr(tail) + zd_run_nr(tail) * ZD_PAGE_SIZE == addr) {
		tail->addr++;
		tier->queue.pages++;
		return;
	}
	zd_fifo_push(&tier->queue, &run);
}

void zd_tier_enter(struct zd_mm *mm, uint64_t addr)
{
	struct zd_server *server = mm->server;
	struct zd_tier *tier;
	zd_entry_t e;

	if (!server->track || server->nr_tiers < 2)
		return;
	e = *zd_mm_entry(mm, addr);
	tier = zd_server_tier_of(server, zd_entry_val(e));
	if (tier == server->tiers[server->nr_tiers - 1])
		return;		/* the last has nowhere to send its coldest */
	push(tier, mm, addr, e);
	if (tier->queue.pages > 4 * tier->nr_entries + 65536)
		sweep(server, tier);
}

/* Enter the pages of @tier in a part of the next address space; the end of a round is followed
 * by a pause. */
static void walk(struct zd_server *server, struct zd_tier *tier)
{
	struct zd_tier_walk *w = &tier->walk;
	unsigned int looked = 0;

	if (zd_now_ns() < w->after_ns)
		return;
	for (; w->slot < server->nr_slots; w->slot++, w->pos = 0) {
		struct zd_mm *mm = server->slots[w->slot];
		size_t i = mm && !mm->dead ? zd_ranges_first(&mm->ranges, w->pos) : 0;

		for (; mm && !mm->dead && i < mm->ranges.nr; i++) {
			const struct zd_range *r = &mm->ranges.v[i];
			uint64_t a = w->pos > r->start ? w->pos : r->start;

			for (a = zd_table_next(&mm->table, a, r->end); a < r->end;
			     a = zd_table_next(&mm->table, a + ZD_PAGE_SIZE, r->end)) {
				zd_entry_t e = *zd_mm_entry(mm, a);

				if (may_take(server, tier, e))
					push(tier, mm, a, e);
				w->pos = a + ZD_PAGE_SIZE;
				if (++looked == WALK_ENTRIES)
					return;
			}
		}
	}
	*w = (struct zd_tier_walk){ .after_ns = zd_now_ns() + WALK_PAUSE_NS };
}

static bool is_taken(const struct zd_place *places, unsigned int nr, const struct zd_mm *mm,
		     uint64_t addr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (places[i].addr == addr && places[i].mm == mm)
			return true;
	return false;
}

/* Add those of the first @nr pages of @run that are still its own to the first @got @places; how
 * many are there then.  A page that another run with the same number has as well is taken once. */
static unsigned int take_run(const struct zd_server *server, const struct zd_tier *tier,
			     const struct zd_run *run, unsigned int nr, struct zd_place *places,
			     unsigned int got)
{
	struct zd_mm *mm = mm_of(server, run);
	unsigned int before = got;

	for (unsigned int i = 0; mm && i < nr; i++) {
		uint64_t addr = zd_run_addr(run) + i * ZD_PAGE_SIZE;

		if (in_run(server, tier, mm, run, addr) && !is_taken(places, before, mm, addr))
			places[got++] = (struct zd_place){ mm, addr };
	}
	return got;
}

unsigned int zd_tier_take_coldest(struct zd_server *server, struct zd_tier *tier,
				  struct zd_place *places, unsigned int max)
{
	unsigned int look = LOOK_RUNS, got = 0;
	struct zd_run run;

	if (!tier->queue.runs)
		walk(server, tier);
	while (got < max && look-- && zd_fifo_peek(&tier->queue, &run)) {
		unsigned int nr = zd_run_nr(&run) < max - got ? zd_run_nr(&run) : max - got;

		got = take_run(server, tier, &run, nr, places, got);
		zd_fifo_shorten(&tier->queue, nr);
	}
	return got;
}
