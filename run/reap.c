/* SPDX-License-Identifier: MIT */
/*
 * Processes whose end is near or has come.
 *
 * An address space is gone when the kernel says so of its userfaultfd; until then a process
 * without an agent may live on.
 */
#include "base/time.h"
#include "run/agent_end.h"
#include "run/agent_lost.h"
#include "run/mover_agent.h"
#include "run/process.h"
#include "run/reap.h"
#include "run/run.h"
#include "run/scout.h"
#include "space/uffd.h"

#define MOVE_END_NS	1000000000ull	/* after the agent's end */
#define REOPEN_NS	2000000ull	/* most programs that lose their agent end now */

/* The agent is gone and the address space is not, because another process shares it: end the
 * agent's last request, since what it had moved to staging can still be read there. */
static void end_move(struct process *p)
{
	struct zd_mig *mig = p->mm->out;

	if (!mig || zd_now_ns() - p->lost_ns < MOVE_END_NS)
		return;
	mover_agent_done(p);
}

void reap_processes(struct run *run)
{
	struct process *p, *next;

	cds_list_for_each_entry_safe(p, next, &run->processes, node) {
		bool suspect = p->gone || p->mm->dead || p->sock.fd < 0;

		if (agent_outlived_exec(p))
			agent_dismiss(p);
		if (agent_farewell_is_late(p))
			agent_answer_farewell(p);
		if (!suspect)
			continue;
		if (zd_now_ns() - p->lost_ns > REOPEN_NS)
			agent_lost_reopen(p);
		/* an exiting thread may wait for a survey that is never made, when the scout
		 * has been stopped */
		if (p->sock.fd < 0 && !scout_has(run->scout, p->survey))
			agent_answer_farewell(p);
		if (p->gone || p->mm->dead || !zd_uffd_mm_alive(zd_mm_uffd(p->mm)))
			process_free(p);
		else
			end_move(p);
	}
}

bool reap_is_near(const struct run *run)
{
	const struct process *p;

	cds_list_for_each_entry(p, &run->processes, node)
		if (p->gone || p->mm->dead || p->sock.fd < 0 || p->dismissed_ns)
			return true;
	return false;
}
