/* SPDX-License-Identifier: MIT */
/*
 * Eviction: keep what is used of RAM (zd_server_used()) at server->limit.
 *
 * Eviction starts a margin below the limit, so that a fault finds room, and takes the
 * oldest inactive runs of one address space at a time, a batch each.  When the
 * limit itself is reached while a batch is on its way out, faults that would add
 * pages wait for it, unless the device has stalled; when nothing can go out (everything is pinned, the device
 * is full, the program is stopped) faults don't wait: exceeding the limit is better than
 * stopping the program.  For the same reason the last few pages (MIN_PAGES) stay in RAM
 * even where pages that can't go out exceed the limit by themselves: an instruction that
 * needs two pages, of which each waits until the other has left, would never finish.
 */
#include <errno.h>

#include "base/time.h"
#include "engine/changes.h"
#include "engine/evict.h"
#include "engine/out.h"
#include "engine/tier.h"
#include "zonedev/log.h"

#define BATCH_PAGES	256
#define MIN_PAGES	128	/* as many as an instruction may need at once, and more */
#define DEMOTE_PAGES	4096	/* each time the whole inactive queue is looked at */
#define PAUSE_MIN_NS	1000000ull
#define PAUSE_MAX_NS	100000000ull
#define STUCK_NS	100000000ull

static struct zd_mm *mm_of(const struct zd_server *server, unsigned int slot)
{
	return slot < server->nr_slots ? server->slots[slot] : NULL;
}

static const struct zd_table *table_of(void *ctx, unsigned int slot)
{
	const struct zd_mm *mm = mm_of(ctx, slot);

	return mm ? &mm->table : NULL;
}

/* A mover that has not answered for long belongs to a stopped program: faults don't wait
 * for its batch. */
static bool is_stuck(const struct zd_mig *mig)
{
	return zd_now_ns() - mig->start_ns > STUCK_NS;
}

/* Pages that movers have been asked to take out. */
static uint64_t leaving(const struct zd_server *server)
{
	const struct zd_mm *mm;
	uint64_t nr = 0;

	cds_list_for_each_entry(mm, &server->mms, node)
		if (mm->out && !is_stuck(mm->out))
			nr += mm->out->nr;
	return nr;
}

/* Pages that devices have been given, and are likely to store soon. */
static bool is_arriving(const struct zd_server *server)
{
	uint64_t now = zd_now_ns();

	for (unsigned int i = 0; i < server->nr_tiers; i++)
		if (zd_reach_is_writing(&server->tiers[i]->reach, now))
			return true;
	return false;
}

/* Pages stay, since the last tier is full.  Logged once, however often that is so again. */
static void say_full(struct zd_server *server)
{
	struct zd_tier *tier = server->tiers[server->nr_tiers - 1];

	if (!tier->full)
		zd_log(ZD_LOG_WARN,
		       "%s is full: pages stay in memory from now on (--ram is exceeded "
		       "until some are freed); give it a larger size",
		       tier->dev->name);
	tier->full = true;
}

/* Has the last tier lately given fewer pages than it was asked for? */
static bool last_has_no_room(const struct zd_server *server)
{
	return server->nr_tiers && zd_now_ns() < server->tiers[server->nr_tiers - 1]->full_until_ns;
}

/* Where no page of a batch went out (all pinned, shared, refused), the next batch would
 * fare the same: pause, longer each time.  A device that is away is spared by itself (reach.h). */
static void landed(struct zd_mig *mig)
{
	struct zd_server *server = mig->server;
	unsigned int gone = 0, unfit = 0;

	for (unsigned int i = 0; i < mig->nr; i++) {
		int error = mig->page[i].error;

		gone += !error || error == ZD_MIG_AWAY;
		unfit += error == -ENOSPC;
	}
	/* a tier above has refused them, and the last has no page for them (write.c) */
	if (unfit && last_has_no_room(server))
		say_full(server);
	if (gone) {
		server->evict_pause_ns = 0;
		return;
	}
	server->evict_pause_ns = server->evict_pause_ns ? server->evict_pause_ns * 2 : PAUSE_MIN_NS;
	if (server->evict_pause_ns > PAUSE_MAX_NS)
		server->evict_pause_ns = PAUSE_MAX_NS;
	server->evict_after_ns = zd_now_ns() + server->evict_pause_ns;
}

/* Add the pages that still belong to @run.  A page that must stay leaves the queue. */
static unsigned int collect(struct zd_mm *mm, const struct zd_run *run, uint64_t *addrs)
{
	bool (*unevictable)(struct zd_mm *mm, uint64_t addr) = mm->server->host->unevictable;
	unsigned int nr = 0;

	for (unsigned int i = 0; i < zd_run_nr(run); i++) {
		uint64_t addr = zd_run_addr(run) + i * ZD_PAGE_SIZE;

		if (!zd_lru_in_run(&mm->table, addr, run))
			continue;
		if (unevictable && unevictable(mm, addr)) {
			zd_lru_forget(&mm->server->lru, *zd_mm_entry(mm, addr));
			zd_entry_store(zd_mm_entry(mm, addr), 0);
			continue;
		}
		addrs[nr++] = addr;
	}
	return nr;
}

/*
 * The pages of the next batch, all of one mm that can move pages now.  Runs of an mm
 * that can't (it has no mover yet, or a stuck one, or is debugged) go to the end of the
 * queue: they must not hold up the others.
 */
static unsigned int pick(struct zd_server *server, struct zd_mm **out, uint64_t *addrs)
{
	struct zd_lru *lru = &server->lru;
	uint64_t look = lru->fifo[ZD_LRU_INACTIVE].runs;
	struct zd_mm *mm = NULL;
	unsigned int nr = 0;
	struct zd_run run;

	while (nr < BATCH_PAGES && look-- && zd_lru_peek(lru, &run)) {
		struct zd_mm *owner = mm_of(server, zd_run_slot(&run));

		if (mm && owner != mm)
			break;
		if (!owner || owner->dead) {
			zd_lru_pop(lru);
			continue;
		}
		if (!owner->mover || owner->mover_gone || owner->debugged ||
		    (owner->out && is_stuck(owner->out))) {
			zd_lru_rotate(lru);
			continue;
		}
		if (owner->out)
			break;		/* done in a moment */
		if (nr + zd_run_nr(&run) > ZD_MIG_MAX)
			break;
		/* a huge page is a batch of its own: its staging slots must be aligned as it is */
		if (nr && zd_run_nr(&run) == ZD_RUN_MAX)
			break;
		mm = owner;
		nr += collect(mm, &run, addrs + nr);
		zd_lru_pop(lru);
	}
	*out = mm;
	return nr;
}

/* The last tier is. */
static void device_full(struct zd_server *server)
{
	say_full(server);
	server->evict_after_ns = zd_now_ns() + PAUSE_MAX_NS;
}

/* Next to nothing is resident: is it what the last tier takes of RAM that exceeds the limit? */
static void check_ram_taken(const struct zd_server *server)
{
	struct zd_tier *tier = server->tiers[server->nr_tiers - 1];

	if (tier->full || zd_server_used(server) <= server->limit ||
	    zd_tier_ram_pages(tier) <= server->limit / 2)
		return;
	tier->full = true;
	zd_log(ZD_LOG_WARN,
	       "%s: what it holds takes %llu MiB of RAM, more than --ram has room for; give a larger --ram, or another device behind it",
	       tier->dev->name, (unsigned long long)zd_tier_ram_pages(tier) / 256);
}

/* Pages that were picked and can't go now: to the end of the queue, the only place where
 * a FIFO takes them. */
static void put_back(struct zd_server *server, struct zd_mm *mm, const uint64_t *addrs,
		     unsigned int nr)
{
	for (unsigned int i = 0, run; i < nr; i += run) {
		run = 1;
		while (i + run < nr && addrs[i + run] == addrs[i] + run * ZD_PAGE_SIZE)
			run++;
		for (unsigned int k = 0; k < run; k++)
			zd_lru_forget(&server->lru, *zd_mm_entry(mm, addrs[i + k]));
		zd_mm_lru_add(mm, addrs[i], run, false);
	}
}

/* zd_out_start() to the first tier that has room for some of the pages.  -EAGAIN: one that may have
 * can't be given any now. */
static int start(struct zd_mm *mm, const uint64_t *addrs, unsigned int nr)
{
	struct zd_server *server = mm->server;
	struct zd_tier *tier = NULL;
	int rc;

	while ((tier = zd_server_next_tier(server, tier))) {
		struct zd_out_want want = {
			.dev = tier->dev,
			.pass_on = zd_server_next_tier(server, tier),
			.landed = landed,
		};

		if (zd_tier_is_busy(server, tier))
			return -EAGAIN;
		rc = zd_out_start(mm, addrs, nr, &want);
		if (rc != -ENOSPC && rc != -ENODEV && rc != -EIO)
			return rc;
	}
	return zd_server_is_in_reach(server) ? -ENOSPC : -EAGAIN;
}

/* Can a batch be sent now? */
static bool has_taker(const struct zd_server *server)
{
	const struct zd_tier *tier = zd_server_next_tier(server, NULL);

	return tier && !zd_tier_is_busy(server, tier);
}

/* The server's thread; doesn't block. */
void zd_server_evict(struct zd_server *server)
{
	uint64_t addrs[ZD_MIG_MAX], target;
	struct zd_mm *mm;

	if (!server->limit || !server->nr_tiers || server->hold_evictions)
		return;
	if (server->changes_pending)	/* pages of an mm that has a log would be refused */
		server->changes_pending = !zd_mms_catch_up(server);
	target = server->limit - zd_server_margin(server);
	if (zd_server_used(server) > target + leaving(server))
		server->host->resync(server);
	while (zd_server_used(server) > target + leaving(server)) {
		unsigned int nr;
		uint64_t now;
		int rc;

		now = zd_now_ns();
		if (now < server->evict_after_ns || !has_taker(server))
			return;
		if (zd_lru_present(&server->lru) <= MIN_PAGES) {
			check_ram_taken(server);
			return;
		}
		zd_lru_balance(&server->lru, table_of, server);
		nr = pick(server, &mm, addrs);
		if (!nr) {
			/* only leftovers were there; or all inactive runs are of mms that
			 * can't move pages now */
			if (mm || (!leaving(server) &&
				   zd_lru_demote(&server->lru, DEMOTE_PAGES, table_of, server)))
				continue;
			return;
		}
		rc = start(mm, addrs, nr);
		if (rc < 0) {
			put_back(server, mm, addrs, nr);
			if (rc == -ENOSPC) {
				server->stats.c.refused_device += nr;
				device_full(server);
			} else if (rc == -EAGAIN) {
				server->evict_after_ns = now + PAUSE_MIN_NS;
			}
			return;
		}
		/* the device had room for some: the others stay queued */
		if ((unsigned int)rc < nr) {
			server->stats.c.refused_device += nr - rc;
			put_back(server, mm, addrs + rc, nr - rc);
		}
	}
}

/* The server's thread; doesn't block. */
bool zd_server_throttle(struct zd_server *server)
{
	if (!server->limit || zd_server_used(server) < server->limit)
		return false;
	server->host->resync(server);
	if (zd_server_used(server) < server->limit)
		return false;
	zd_server_evict(server);
	return leaving(server) > 0 || is_arriving(server);
}
