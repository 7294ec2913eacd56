/* SPDX-License-Identifier: MIT */
/*
 * The patrol: looks for pages that are in RAM and in no queue, and queues them.
 *
 * Such are pages that were refused once (mlocked, say), pages that had to stay for a thread
 * that has ended, and pages that came back without a fault (written again after MADV_FREE).
 * While RAM is short they are looked for in rounds over all processes, a little in each step,
 * with a rest after each round.
 */
#include "base/time.h"
#include "engine/tier.h"
#include "run/manage.h"
#include "run/patrol.h"
#include "run/process.h"
#include "run/run.h"
#include "run/scan.h"
#include "space/maps.h"

#define STEP_BYTES	(64UL * 1024 * 1024)	/* looked at in one step, at most */
#define STEP_PAGES	1024			/* and resident ones among them */
#define REST_NS		1000000000ull

/* Queue the pages of a stretch in RAM that no queue has. */
static void requeue(struct process *p, const struct zd_present *present)
{
	uint64_t first = present->start, now = zd_now_ns();

	for (uint64_t a = first; a <= present->end; a += ZD_PAGE_SIZE) {
		bool lost = a < present->end && zd_entry_is_free(*zd_mm_entry(p->mm, a), now) &&
			    !scan_is_unevictable(p, a);

		if (lost && a - first < RUN_PAGES * ZD_PAGE_SIZE)
			continue;
		if (a > first)
			zd_mm_lru_add(p->mm, first, (a - first) / ZD_PAGE_SIZE, false);
		first = lost ? a : a + ZD_PAGE_SIZE;
	}
}

/* Look at some memory of the process.  False: that was the last of it. */
static bool step(struct process *p)
{
	const struct zd_ranges *r = &p->mm->ranges;
	size_t i = zd_ranges_first(r, p->patrol_at);
	struct zd_present present[64];
	uint64_t end;
	int n;

	if (p->pagemap_fd < 0 || p->mm->dead || i == r->nr) {
		p->patrol_at = 0;
		return false;
	}
	if (p->patrol_at < r->v[i].start)
		p->patrol_at = r->v[i].start;
	end = r->v[i].end < p->patrol_at + STEP_BYTES ? r->v[i].end : p->patrol_at + STEP_BYTES;
	n = zd_present_scan(p->pagemap_fd, &p->patrol_at, end, present, 64, STEP_PAGES);
	for (int k = 0; k < n; k++)
		requeue(p, &present[k]);
	if (n < 0)
		p->patrol_at = end;
	return true;
}

void patrol(struct run *run, uint64_t now)
{
	struct process *p = run->patrolled;

	if (!run->engaged || cds_list_empty(&run->processes) || now < run->patrol_after_ns ||
	    zd_server_used(&run->server) < run->server.limit - run->server.limit / 8)
		return;
	if (!p)
		p = cds_list_first_entry(&run->processes, struct process, node);
	if (step(p)) {
		run->patrolled = p;
		return;
	}
	if (p->node.next != &run->processes) {
		run->patrolled = cds_list_entry(p->node.next, struct process, node);
		return;
	}
	run->patrolled = NULL;
	run->patrol_after_ns = now + REST_NS;
}
