/* SPDX-License-Identifier: MIT */
/*
 * How much RAM the processes use.
 *
 * The kernel's own numbers are the truth: statm gives the resident anonymous pages of a
 * process, managed or not.  Processes that are forks of one another share pages, and the sum
 * would count those twice; so of such a family the proportional share is taken
 * (smaps_rollup).  To read that is dear: so the scout reads it, rarely, and between two
 * readings it is corrected by how much statm has changed.
 *
 * Between two readings server->resident is kept up by what the server itself does, which
 * overstates: zero pages that were mapped ahead cost nothing yet.  So before anything is
 * evicted the processes are read again (budget_resync(), at most every RESYNC_NS).
 */
#include <stdio.h>
#include <unistd.h>

#include "base/time.h"
#include "run/budget.h"
#include "run/process.h"
#include "run/run.h"
#include "run/scan.h"
#include "run/tiers.h"

#define RESYNC_NS	300000ull
#define PSS_NS		100000000ull

bool budget_read(struct process *p, uint64_t *size, uint64_t *anon)
{
	char buf[128];
	ssize_t n = pread(p->statm_fd, buf, sizeof(buf) - 1, 0);
	unsigned long long total, resident, shared;

	if (n <= 0)
		return false;
	buf[n] = 0;
	if (sscanf(buf, "%llu %llu %llu", &total, &resident, &shared) != 3)
		return false;
	*size = total;
	*anon = resident - shared;
	return true;
}

static bool has_family(const struct process *p)
{
	const struct process *q;

	cds_list_for_each_entry(q, &p->run->processes, node)
		if (q != p && q->family == p->family)
			return true;
	return false;
}

/* Pages that the process adds to the use of RAM.  May ask for a survey. */
static uint64_t charge(struct process *p, uint64_t now)
{
	uint64_t size;

	/* the process is about to end: to read statm would hold its address space for a moment */
	if (p->dismissed_ns)
		return p->anon;
	if (p->statm_fd < 0 || !budget_read(p, &size, &p->anon))
		return 0;
	p->in_family = has_family(p);
	if (!p->in_family)
		p->pss_at_ns = 0;
	else if (!p->pss_at_ns || now - p->pss_at_ns > PSS_NS)
		scan(p);
	if (!p->in_family || (!p->pss_at_ns && p->id == p->family))
		return p->anon;
	/* until a child's share is known, the pages that it began with count as its parent's */
	if (!p->pss_at_ns) {
		if (!p->anon_at_first)
			p->anon_at_first = p->anon;
		return p->anon > p->anon_at_first ? p->anon - p->anon_at_first : 0;
	}
	if (p->anon >= p->anon_at_pss)
		return p->pss + (p->anon - p->anon_at_pss);
	return p->pss > p->anon_at_pss - p->anon ? p->pss - (p->anon_at_pss - p->anon) : 0;
}

void budget_resync(struct zd_server *server)
{
	struct run *run = caa_container_of(server, struct run, server);
	uint64_t now = zd_now_ns(), total = 0, exempt = 0;
	struct process *p;

	if (now - run->resync_ns < RESYNC_NS)
		return;
	run->resync_ns = now;
	cds_list_for_each_entry(p, &run->processes, node) {
		uint64_t pages = charge(p, now);

		total += pages;
		exempt += p->traced ? pages : 0;
	}
	if (total + tiers_ram(run) / ZD_PAGE_SIZE > run->peak)
		run->peak = total + tiers_ram(run) / ZD_PAGE_SIZE;
	server->resident = total - exempt;
}
