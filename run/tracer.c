/* SPDX-License-Identifier: MIT */
/*
 * Debuggers.
 *
 * A debugger reads memory in a way that can't wait for a page (ptrace, /proc/PID/mem): it
 * would get an I/O error for every page that is away.  So a traced process has its pages at
 * home, and they don't count: the limit is for the other processes then, since the debugger
 * itself is mostly one of them and would have nothing left.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run/process.h"
#include "run/run.h"
#include "run/tracer.h"
#include "space/table.h"
#include "zonedev/log.h"

#define TRACE_NS	50000000ull

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
	p->mm->debugged = traced;
}

/* A few steps. */
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

void tracer_step(struct process *p, uint64_t now)
{
	look_for_tracer(p, now);
	if (p->traced && p->homing.end)
		bring_home(p);
}

bool tracer_is_busy(const struct run *run)
{
	const struct process *p;

	cds_list_for_each_entry(p, &run->processes, node)
		if (p->traced && p->homing.end)
			return true;
	return false;
}
