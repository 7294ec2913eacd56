/* SPDX-License-Identifier: MIT */
/*
 * How agents end.
 *
 * The agent keeps the address space as long as it lives.  It sees the program's end by
 * itself.  When the program exits it says so first, and waits until the agent is gone
 * (the farewell, agent_proto.h).  Of an exec the agent hears from here: the new
 * program's hello tells, or, where that is not managed, a look from time to time.
 *
 * An agent that is killed leaves a program that is served as ever, but what /proc showed
 * of the program through the agent must be looked for anew.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kcmp.h>

#include "space/maps.h"
#include "space/uffd.h"
#include "run/proc.h"
#include "run/run.h"

#define FAREWELL_NS	1000000000ull	/* an agent that was stopped may not end at all */

bool process_dismiss_agent(struct process *p)
{
	if (p->sock.fd < 0 || p->agent_thread)
		return false;
	if (p->dismissed_ns)
		return true;
	if (agent_link_say(p, ZD_AGENT_BYE))
		return false;
	p->dismissed_ns = zd_now_ns();
	return true;
}

struct process *process_before_exec(struct run *run, pid_t pid, const struct process *now)
{
	struct process *p;

	cds_list_for_each_entry(p, &run->processes, node)
		if (p != now && p->pid == pid && p->sock.fd >= 0 && !p->agent_thread)
			return p;
	return NULL;
}

bool process_farewell_late(const struct process *p)
{
	return p->dismissed_ns && zd_now_ns() - p->dismissed_ns > FAREWELL_NS;
}

/* The agent and the scout keep the address space while they look at it: its executable
 * would still be busy for the program's parent. */
bool process_farewell_waits(struct process *p)
{
	if (process_farewell_late(p))
		return false;
	return process_dismiss_agent(p) || scout_has(p->run->scout, p->survey);
}

void process_answer_farewell(struct process *p)
{
	zd_uffd_wake(zd_mm_uffd(p->mm), p->identity + ZD_FAREWELL, ZD_PAGE_SIZE);
}

/* --- without an agent --- */

struct ring_search {
	const struct process *p;
	bool found;
};

static bool is_ring(const struct zd_vma *vma, void *ctx)
{
	struct ring_search *s = ctx;

	s->found = vma->shared && vma->inode == s->p->ring_ino && vma->start >= s->p->lo &&
		   vma->end <= s->p->hi;
	return !s->found && vma->end <= s->p->hi;
}

/* Is @tid a task of the address space of @ctx, a process? */
static bool has_ring(pid_t pid, pid_t tid, void *ctx)
{
	struct ring_search s = { .p = ctx };
	int fd = proc_open(pid, tid, "maps");

	if (fd < 0)
		return false;
	if (zd_maps_walk(fd, is_ring, &s))
		s.found = false;
	close(fd);
	return s.found;
}

void process_look_again(struct process *p)
{
	int *const fd[] = { &p->maps_fd, &p->pagemap_fd, &p->statm_fd, &p->mem_fd };
	struct survey *survey;
	struct process seen = *p;
	pid_t tid;

	if (p->looked || p->pid < 0 || p->sock.fd >= 0 || p->agent_thread)
		return;
	p->looked = true;
	tid = proc_find_task(p->pid, has_ring, p);
	if (!tid)
		return;
	if (process_open_memory(&seen, p->pid, tid) ||
	    process_new_survey(p, p->pid, p->pid, tid, &survey)) {
		seen.status_fd = seen.pidfd = -1;
		process_close_proc(&seen);
		return;
	}
	p->tid = tid;
	for (unsigned int i = 0; i < sizeof(fd) / sizeof(fd[0]); i++)
		close(*fd[i]);
	p->maps_fd = seen.maps_fd;
	p->pagemap_fd = seen.pagemap_fd;
	p->statm_fd = seen.statm_fd;
	p->mem_fd = seen.mem_fd;
	p->mm->pagemap_fd = p->pagemap_fd;
	scout_release(p->run->scout, p->survey);
	p->survey = survey;
	process_answer_farewell(p);	/* it may have waited for that survey */
}

/* --- after an exec --- */

/* A main thread that has ended while others live on has no memory, either. */
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

bool process_has_execed(const struct process *p)
{
	if (p->pid < 0 || p->sock.fd < 0 || p->agent_thread || p->dismissed_ns)
		return false;
	return syscall(SYS_kcmp, p->pid, p->tid, KCMP_VM, 0, 0) > 0 && has_memory(p->pid);
}
