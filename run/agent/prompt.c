/* SPDX-License-Identifier: MIT */
/*
 * The agent runs at once when it is woken: faults wait for room that it makes.
 *
 * As the supervisor does for itself (inherit_be_prompt()): a short time slice, because a nice
 * value would show in the program's getpriority(PRIO_USER); the nice value only where the
 * kernel has no such slices.
 */
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/sched.h"
#include "run/agent/agent.h"

/* Context: the middleman, whose attributes the agent inherits; or an agent that is a thread. */
void agent_be_prompt(void)
{
	struct zd_sched attr = { .size = 0 };

	if (raw_syscall(SYS_sched_getattr, 0, (long)&attr, sizeof(attr), 0, 0, 0) ||
	    attr.policy != SCHED_OTHER)
		return;
	attr.runtime = ZD_SCHED_SLICE_MIN_NS;
	raw_syscall(SYS_sched_setattr, 0, (long)&attr, 0, 0, 0, 0);
	attr.runtime = 0;
	raw_syscall(SYS_sched_getattr, 0, (long)&attr, sizeof(attr), 0, 0, 0);
	if (attr.runtime != ZD_SCHED_SLICE_MIN_NS)	/* who = 0: this task */
		raw_syscall(SYS_setpriority, PRIO_PROCESS, 0, attr.nice - 10, 0, 0, 0);
}
