/* SPDX-License-Identifier: MIT */
/*
 * What the supervisor does from time to time, between two polls of its server.
 *
 * The nearer the use of RAM is to the limit, the shorter are the pauses: GROWTH is what the
 * programs could take meanwhile.
 */
#include "base/time.h"
#include "engine/tier.h"
#include "run/advice.h"
#include "run/budget.h"
#include "run/control.h"
#include "run/patrol.h"
#include "run/process.h"
#include "run/reap.h"
#include "run/removal.h"
#include "run/report.h"
#include "run/run.h"
#include "run/scan.h"
#include "run/tick.h"
#include "run/tracer.h"

#define SCAN_NS		200000000ull
#define GROWTH		1024		/* pages a millisecond: 4 GB/s */
#define TICK_MIN_MS	2
#define TICK_MAX_MS	50
#define HEADROOM	16384ull	/* pages; managing starts 64 MiB, or a
					 * quarter, below the limit */

static void look_at(struct process *p, uint64_t now)
{
	uint64_t size, anon;

	tracer_step(p, now);
	if (!p->run->engaged || p->dismissed_ns || p->statm_fd < 0 || !budget_read(p, &size, &anon))
		return;
	if ((size != p->vm_size || now - p->scan_at_ns > SCAN_NS) && scan(p))
		p->vm_size = size;
}

/* The use of RAM at which managing starts: below the limit, and no earlier, so that a program
 * that never comes near its limit is not slowed down. */
static uint64_t engage_at(const struct run *run)
{
	uint64_t room = run->server.limit / 4 > HEADROOM ? run->server.limit / 4 : HEADROOM;

	return run->server.limit > room ? run->server.limit - room : 0;
}

/* The scout has made surveys: take them at once. */
void tick_survey_made(void *ctx)
{
	struct run *run = ctx;

	run->tick_ns = 0;
}

static int next_tick(const struct run *run)
{
	uint64_t goal = run->engaged ? run->server.limit : engage_at(run);
	uint64_t used = zd_server_used(&run->server), room = goal > used ? goal - used : 0;
	uint64_t ms = room / GROWTH;

	if (tracer_is_busy(run) || reap_is_near(run) || removal_is_active(run))
		return TICK_MIN_MS;
	return ms < TICK_MIN_MS ? TICK_MIN_MS : ms > TICK_MAX_MS ? TICK_MAX_MS : ms;
}

int tick(struct run *run)
{
	uint64_t now = zd_now_ns();
	struct process *p;
	bool more = false;
	int ms;

	if (now < run->tick_ns)
		/* a removal waits for batches: each turn may have landed some */
		return removal_step(run) ? 0 : (run->tick_ns - now) / 1000000 + 1;
	budget_resync(&run->server);
	if (!run->engaged && zd_server_used(&run->server) >= engage_at(run))
		run->engaged = true;
	cds_list_for_each_entry(p, &run->processes, node)
		look_at(p, now);
	cds_list_for_each_entry(p, &run->processes, node)
		more |= scan_step(p);
	patrol(run, now);
	reap_processes(run);
	advise(run, now);
	more |= removal_step(run);
	control_step(run);
	if (run->opt.progress)
		report_progress(run, false);
	ms = more ? 0 : next_tick(run);
	run->tick_ns = now + ms * 1000000ull;
	return ms;
}
