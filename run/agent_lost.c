/* SPDX-License-Identifier: MIT */
/*
 * A process that has lost its agent.
 *
 * Mostly the program has ended or exec'ed.  But an agent can also be killed alone; then the
 * program is served as ever, and what /proc showed of the program through the agent must be
 * opened anew through another task of the same address space.  That task is known by the
 * agent's ring: a mapping of a memfd that no other address space has.
 */
#include <errno.h>
#include <unistd.h>

#include "base/time.h"
#include "run/agent_end.h"
#include "run/agent_lost.h"
#include "run/proc.h"
#include "run/process.h"
#include "run/run.h"
#include "run/scout.h"
#include "space/maps.h"

/* Nothing can be moved out from now on. */
void agent_lost(struct process *p)
{
	if (p->sock.fd >= 0) {
		zd_loop_remove(&p->run->server.loop, &p->sock);
		close(p->sock.fd);
		p->sock.fd = -1;
	}
	p->mm->mover_gone = true;
	p->lost_ns = zd_now_ns();
	agent_answer_farewell(p);
}

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

void agent_lost_reopen(struct process *p)
{
	int *const fd[] = { &p->maps_fd, &p->pagemap_fd, &p->statm_fd, &p->mem_fd };
	struct survey *survey;
	struct process seen = *p;
	pid_t tid;

	if (p->reopened || p->pid < 0 || p->sock.fd >= 0 || p->agent_thread)
		return;
	p->reopened = true;
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
	agent_answer_farewell(p);	/* an exiting thread may have waited for the old survey */
}
