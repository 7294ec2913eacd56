/* SPDX-License-Identifier: MIT */
/*
 * How much RAM the processes use, and what is done about it from time to time.
 *
 * The kernel's own numbers are the truth: statm gives the resident anonymous
 * pages of a process, whether we manage them or not.  Processes that are forks
 * of one another share pages, and the sum would count them twice; of those the
 * proportional share is taken (smaps_rollup), which is dear, so the scout reads
 * it, rarely, and it is corrected by what statm has changed since.
 *
 * Between two readings server->resident is kept up by what the server itself
 * does, which overstates: zero pages that were mapped ahead cost nothing yet.
 * So it is read again before anything is evicted for it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run/run.h"
#include "zonedev/log.h"

#define RESYNC_NS	300000ull
#define PSS_NS		100000000ull
#define TRACE_NS	50000000ull
#define SCAN_NS		200000000ull
#define REQUEUE_NS	1000000000ull
#define GROWTH		1024		/* pages a millisecond: 4 GB/s */
#define TICK_MIN_MS	2
#define TICK_MAX_MS	50
#define HEADROOM	16384ull	/* pages; managing starts 64 MiB, or a
					 * quarter, below the limit */

static bool read_statm(struct process *p, uint64_t *size, uint64_t *anon)
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

/* What the process adds to the use of RAM. */
static uint64_t charge(struct process *p, uint64_t now)
{
	uint64_t size;

	/* about to end: a look would keep its address space for that moment */
	if (p->dismissed_ns)
		return p->anon;
	if (p->statm_fd < 0 || !read_statm(p, &size, &p->anon))
		return 0;
	p->in_family = has_family(p);
	if (!p->in_family)
		p->pss_at_ns = 0;
	else if (!p->pss_at_ns || now - p->pss_at_ns > PSS_NS)
		scan(p);
	if (!p->in_family || (!p->pss_at_ns && p->id == p->family))
		return p->anon;
	/* until its share is known, what a child has had from the beginning is its parent's */
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
	uint64_t now = zd_now_ns(), total = 0, kept = 0;
	struct process *p;

	if (now - run->resync_ns < RESYNC_NS)
		return;
	run->resync_ns = now;
	cds_list_for_each_entry(p, &run->processes, node) {
		uint64_t pages = charge(p, now);

		total += pages;
		kept += p->traced ? pages : 0;
	}
	if (total > run->peak)
		run->peak = total;
	server->resident = total - kept;
}

/* --- debuggers --- */

/*
 * A debugger reads memory in a way that can't wait for a page (ptrace,
 * /proc/PID/mem): it would get an I/O error for every page that is away.  So a
 * traced process has its pages at home, beyond the limit, which is for the others then:
 * the debugger itself is mostly one of them, and would have nothing left.
 */
static void look_for_tracer(struct process *p, uint64_t now)
{
	char buf[1024], *at;
	bool traced;
	ssize_t n;

	if (p->status_fd < 0 || now - p->trace_at_ns < TRACE_NS)
		return;
	p->trace_at_ns = now;
	n = pread(p->status_fd, buf, sizeof(buf) - 1, 0);
	if (n <= 0)
		return;
	buf[n] = 0;
	at = strstr(buf, "\nTracerPid:");
	traced = at && strtol(at + 11, NULL, 10) != 0;
	if (traced && !p->traced) {
		p->homing = (struct zd_homing){ .end = UINT64_C(1) << ZD_VA_BITS };
		zd_log(ZD_LOG_INFO, "process %d is traced: its pages come home", p->pid);
	}
	p->traced = traced;
	p->mm->keep = traced;
}

/* As long as there is something to bring; a few steps a tick. */
static void bring_home(struct process *p)
{
	int rc;

	for (int i = 0; i < 64 && p->homing.end; i++) {
		enum zd_cmd_result r = zd_homing_step(p->mm, &p->homing, &rc);

		if (r == ZD_CMD_WAIT)
			return;
		if (r == ZD_CMD_DONE) {
			p->homing.end = 0;
			zd_log(rc ? ZD_LOG_WARN : ZD_LOG_INFO, "process %d: %s", p->pid,
			       rc ? "some pages stay away" : "all pages are home");
		}
	}
}

static bool homing(const struct run *run)
{
	const struct process *p;

	cds_list_for_each_entry(p, &run->processes, node)
		if (p->traced && p->homing.end)
			return true;
	return false;
}

/* --- the tick --- */

static void look_at(struct process *p, uint64_t now)
{
	uint64_t size, anon;

	look_for_tracer(p, now);
	if (p->traced && p->homing.end)
		bring_home(p);
	if (!p->run->engaged || p->dismissed_ns || p->statm_fd < 0 || !read_statm(p, &size, &anon))
		return;
	if ((size != p->vm_size || now - p->scan_at_ns > SCAN_NS) && scan(p))
		p->vm_size = size;
}

/* Pages below the limit where managing starts: a program that never comes near
 * the limit costs, and is slowed down by, nothing. */
static uint64_t engage_at(const struct run *run)
{
	uint64_t room = run->server.limit / 4 > HEADROOM ? run->server.limit / 4 : HEADROOM;

	return run->server.limit > room ? run->server.limit - room : 0;
}

/* Near the limit: a step of a round over all processes; then a rest. */
static void look_for_lost_pages(struct run *run, uint64_t now)
{
	struct process *p = run->patrolled;

	if (!run->engaged || cds_list_empty(&run->processes) || now < run->requeue_ns ||
	    run->server.resident < run->server.limit - run->server.limit / 8)
		return;
	if (!p)
		p = cds_list_first_entry(&run->processes, struct process, node);
	if (scan_patrol(p)) {
		run->patrolled = p;
		return;
	}
	if (p->node.next != &run->processes) {
		run->patrolled = cds_list_entry(p->node.next, struct process, node);
		return;
	}
	run->patrolled = NULL;
	run->requeue_ns = now + REQUEUE_NS;
}

/* Something may be there to be taken, from the scout. */
void budget_survey_made(void *ctx)
{
	struct run *run = ctx;

	run->tick_ns = 0;
}

static int next_tick(const struct run *run)
{
	uint64_t goal = run->engaged ? run->server.limit : engage_at(run);
	uint64_t room = goal > run->server.resident ? goal - run->server.resident : 0;
	uint64_t ms = room / GROWTH;

	if (homing(run) || processes_waiting(run))
		return TICK_MIN_MS;
	return ms < TICK_MIN_MS ? TICK_MIN_MS : ms > TICK_MAX_MS ? TICK_MAX_MS : ms;
}

int budget_tick(struct run *run)
{
	uint64_t now = zd_now_ns();
	struct process *p;
	bool more = false;
	int ms;

	if (now < run->tick_ns)
		return (run->tick_ns - now) / 1000000 + 1;
	budget_resync(&run->server);
	if (!run->engaged && run->server.resident >= engage_at(run))
		run->engaged = true;
	cds_list_for_each_entry(p, &run->processes, node)
		look_at(p, now);
	cds_list_for_each_entry(p, &run->processes, node)
		more |= scan_step(p);
	look_for_lost_pages(run, now);
	processes_reap(run);
	advise(run, now);
	if (run->opt.progress)
		report_progress(run, false);
	ms = more ? 0 : next_tick(run);
	run->tick_ns = now + ms * 1000000ull;
	return ms;
}
