/* SPDX-License-Identifier: MIT */
/*
 * What the server asks its host (struct zd_server_host): the supervisor's answers.
 *
 * Context: the server's thread, in the middle of a message or a batch of that address space;
 * nothing here may block or free a process.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "run/agent/agent_proto.h"
#include "run/agent_end.h"
#include "run/agent_lost.h"
#include "run/budget.h"
#include "run/host.h"
#include "run/manage.h"
#include "run/process.h"
#include "run/scan.h"
#include "space/uffd.h"
#include "zonedev/log.h"

static bool unknown_fault(struct zd_mm *mm, uint64_t addr)
{
	if (mm->host_data)
		agent_lost_reopen(mm->host_data);
	return manage_unknown(mm->host_data, addr);
}

static void forked(struct zd_mm *parent_mm, struct zd_mm *mm)
{
	struct process *parent = parent_mm->host_data;
	struct process *p = process_new(parent->run, mm);

	if (!p) {
		zd_log(ZD_LOG_ERR, "out of memory: a forked child can't be served, "
				   "it will hang at the first page that is away");
		return;
	}
	p->family = parent->family;
	p->lo = parent->lo;
	p->hi = parent->hi;
	p->staging = parent->staging;
	p->identity = parent->identity;
	p->clear_tids = parent->clear_tids;
}

static void died(struct zd_mm *mm)
{
	struct process *p = mm->host_data;

	if (p)
		p->gone = true;
}

static void kill_process(struct zd_mm *mm)
{
	struct process *p = mm->host_data;

	if (p && p->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
}

/* A fault on the identity page is answered with the id of the process that reads the page, one
 * on the farewell page when the process has no agent any more.  The rest of the agent's memory
 * is never missing but for a moment after a fork. */
static bool own_fault(struct zd_mm *mm, uint64_t addr)
{
	static uint64_t page[ZD_PAGE_SIZE / sizeof(uint64_t)]
		__attribute__((aligned(ZD_PAGE_SIZE)));
	struct process *p = mm->host_data;

	if (!p || addr < p->lo || addr >= p->hi)
		return false;
	if (addr == p->identity + ZD_FAREWELL && agent_farewell_waits(p))
		return true;
	page[0] = addr == p->identity ? p->id : 0;
	if (zd_uffd_copy(zd_mm_uffd(mm), addr, page, ZD_PAGE_SIZE, true) < 0)
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
	return true;
}

static bool is_unevictable(struct zd_mm *mm, uint64_t addr)
{
	const struct process *p = mm->host_data;

	return p && scan_is_unevictable(p, addr);
}

const struct zd_server_host run_host = {
	.unevictable = is_unevictable,
	.unknown_fault = unknown_fault,
	.forked = forked,
	.died = died,
	.kill = kill_process,
	.own_fault = own_fault,
	.resync = budget_resync,
};
