/* SPDX-License-Identifier: MIT */
/*
 * How agents end in good order.
 *
 * The agent holds the address space as long as it lives.  It sees the program's end by
 * itself.  When the program exits, the exiting thread says so first, and waits until the
 * agent is gone (the farewell, agent_proto.h).  Of an exec the agent is told by the
 * supervisor: the new program's hello says that there was one, or, where the new program is
 * not managed, a look from time to time does (agent_outlived_exec()).
 */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kcmp.h>

#include "base/time.h"
#include "run/agent/agent_proto.h"
#include "run/agent_end.h"
#include "run/proc.h"
#include "run/process.h"
#include "run/run.h"
#include "run/scout.h"
#include "space/uffd.h"

#define FAREWELL_NS	1000000000ull	/* an agent that has been stopped may never end */

bool agent_dismiss(struct process *p)
{
	if (p->sock.fd < 0 || p->agent_thread)
		return false;
	if (p->dismissed_ns)
		return true;
	if (process_tell_agent(p, ZD_AGENT_BYE))
		return false;
	p->dismissed_ns = zd_now_ns();
	return true;
}

struct process *agent_predecessor(struct run *run, pid_t pid, const struct process *now)
{
	struct process *p;

	cds_list_for_each_entry(p, &run->processes, node)
		if (p != now && p->pid == pid && p->sock.fd >= 0 && !p->agent_thread)
			return p;
	return NULL;
}

bool agent_farewell_is_late(const struct process *p)
{
	return p->dismissed_ns && zd_now_ns() - p->dismissed_ns > FAREWELL_NS;
}

/* The agent and the scout hold the address space while they look at it: the program's parent
 * would find the executable still busy. */
bool agent_farewell_waits(struct process *p)
{
	if (agent_farewell_is_late(p))
		return false;
	return agent_dismiss(p) || scout_has(p->run->scout, p->survey);
}

void agent_answer_farewell(struct process *p)
{
	zd_uffd_wake(zd_mm_uffd(p->mm), p->identity + ZD_FAREWELL, ZD_PAGE_SIZE);
}

/* False: @pid has ended, or its main thread has, while others live on. */
static bool has_memory(pid_t pid)
{
	char buf[16] = "0";
	int fd = proc_open(pid, pid, "statm");

	if (fd < 0)
		return false;
	if (read(fd, buf, sizeof(buf) - 1) <= 0)
		buf[0] = '0';
	close(fd);
	return buf[0] != '0';
}

bool agent_outlived_exec(const struct process *p)
{
	if (p->pid < 0 || p->sock.fd < 0 || p->agent_thread || p->dismissed_ns)
		return false;
	return syscall(SYS_kcmp, p->pid, p->tid, KCMP_VM, 0, 0) > 0 && has_memory(p->pid);
}
