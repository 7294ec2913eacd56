/* SPDX-License-Identifier: MIT */
/*
 * The managed processes: one struct per address space, from its agent's hello
 * (or its parent's fork event) until the kernel says that the address space is
 * gone.  The agent's socket ends earlier, when the agent does; an address space
 * without an agent is served as ever, but nothing is moved out of it.
 */
#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "space/maps.h"
#include "space/uffd.h"
#include "run/proc.h"
#include "run/run.h"
#include "zonedev/log.h"

#define GROWS_SHARE	16	/* of the limit: a mapping of that size is managed at once */
#define FDS_OF_PROC	2	/* the first of /proc/PID */

static int *fds_of(struct process *p, unsigned int i)
{
	int *const fd[] = {
		&p->pidfd, &p->sock.fd, &p->maps_fd, &p->pagemap_fd, &p->statm_fd,
		&p->status_fd, &p->mem_fd,
	};

	return i < sizeof(fd) / sizeof(fd[0]) ? fd[i] : NULL;
}

struct process *process_new(struct run *run, struct zd_mm *mm)
{
	struct process *p = zd_alloc(sizeof(*p));
	int *fd;

	if (!p)
		return NULL;
	for (unsigned int i = 0; (fd = fds_of(p, i)); i++)
		*fd = -1;
	p->run = run;
	p->mm = mm;
	mm->host_data = p;
	p->pid = -1;
	p->id = p->family = ++run->next_id;
	cds_list_add_tail(&p->node, &run->processes);
	run->nr_processes++;
	return p;
}

struct process *process_by_id(struct run *run, uint64_t id)
{
	struct process *p;

	cds_list_for_each_entry(p, &run->processes, node)
		if (p->id == id)
			return p;
	return NULL;
}

/* An agent that is a thread is known by its name: the id that it has for itself may be that
 * of another pid namespace. */
static bool is_agent(pid_t pid, pid_t tid, void *ctx)
{
	int fd = tid == pid ? -1 : proc_open(pid, tid, "comm");
	char comm[32];
	ssize_t n;

	(void)ctx;
	if (fd < 0)
		return false;
	n = read(fd, comm, sizeof(comm));
	close(fd);
	return n == 8 && !memcmp(comm, "zonedev\n", 8);
}

static pid_t agent_tid(pid_t pid)
{
	pid_t tid = proc_find_task(pid, is_agent, NULL);

	return tid ? tid : pid;
}

/* What process_attach() has opened. */
void process_close_proc(struct process *p)
{
	int *fd;

	for (unsigned int i = FDS_OF_PROC; (fd = fds_of(p, i)); i++) {
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

/* How many descriptors we may have. */
static int run_files(const struct run *run)
{
	rlim_t max = run->in.limit[RLIMIT_NOFILE].rlim_max;

	return max < INT_MAX ? (int)max : INT_MAX;
}

/* What /proc has on the address space, seen through one of its tasks: through the agent,
 * because a main thread may have ended, and then shows no memory, while others live on. */
int process_open_memory(struct process *p, pid_t pid, pid_t tid)
{
	p->maps_fd = proc_open(pid, tid, "maps");
	p->pagemap_fd = proc_open(pid, tid, "pagemap");
	p->statm_fd = proc_open(pid, tid, "statm");
	p->mem_fd = proc_open(pid, tid, "mem");
	if (p->maps_fd < 0 || p->pagemap_fd < 0 || p->statm_fd < 0 || p->mem_fd < 0)
		return -errno;
	return 0;
}

int process_new_survey(const struct process *p, pid_t pid, pid_t memory, pid_t tid,
		       struct survey **survey)
{
	const struct survey_target of = {
		.pid = pid, .memory = memory, .tid = tid,
		.lo = p->lo, .hi = p->hi, .clear_tids = p->clear_tids,
		.grows_max = p->run->server.limit * ZD_PAGE_SIZE / GROWS_SHARE,
	};

	return survey_new(&of, survey);
}

int process_attach(struct process *p, pid_t pid, pid_t agent, int pidfd)
{
	int rc;

	p->agent_thread = !agent;
	p->tid = agent ? agent : agent_tid(pid);
	rc = process_open_memory(p, agent ? agent : pid, p->tid);
	p->status_fd = proc_open(pid, pid, "status");
	if (!rc && p->status_fd < 0)
		rc = -errno;
	/* the last quarter is for forks: those who wait for one are heard only when there is a
	 * descriptor for the child */
	if (!rc && p->status_fd >= run_files(p->run) / 4 * 3)
		rc = -EMFILE;
	if (!rc)
		rc = process_new_survey(p, pid, agent ? agent : pid, p->tid, &p->survey);
	if (rc) {
		process_close_proc(p);
		return rc;
	}
	p->pid = pid;
	p->pidfd = pidfd;
	p->mm->pagemap_fd = p->pagemap_fd;
	return 0;
}

void process_lost_agent(struct process *p)
{
	if (p->sock.fd >= 0) {
		zd_server_remove(&p->run->server, &p->sock);
		close(p->sock.fd);
		p->sock.fd = -1;
	}
	p->mm->stays = true;
	p->lost_ns = zd_now_ns();
	process_answer_farewell(p);
}

static void process_free(struct process *p)
{
	int *fd;

	if (p->sock.fd >= 0)
		zd_server_remove(&p->run->server, &p->sock);
	zd_mm_destroy(p->mm);
	for (unsigned int i = 0; (fd = fds_of(p, i)); i++)
		if (*fd >= 0)
			close(*fd);
	cds_list_del(&p->node);
	scout_release(p->run->scout, p->survey);
	if (p->run->patrolled == p)
		p->run->patrolled = NULL;
	zd_free(p->found);
	zd_free(p->kept);
	zd_free(p);
}

#define LOST_SETTLE_NS	1000000000ull
#define LOOK_AGAIN_NS	2000000ull	/* most programs that lose their agent end now */

/* The agent is gone and the address space is not (another process shares it):
 * what was in staging is still there to be read. */
static void settle_out(struct process *p)
{
	struct zd_mig *mig = p->mm->out;

	if (!mig || zd_now_ns() - p->lost_ns < LOST_SETTLE_NS)
		return;
	agent_link_done(p);
}

void processes_reap(struct run *run)
{
	struct process *p, *next;

	cds_list_for_each_entry_safe(p, next, &run->processes, node) {
		bool suspect = p->gone || p->mm->dead || p->sock.fd < 0;

		if (process_has_execed(p))
			process_dismiss_agent(p);
		if (process_farewell_late(p))
			process_answer_farewell(p);
		if (!suspect)
			continue;
		if (zd_now_ns() - p->lost_ns > LOOK_AGAIN_NS)
			process_look_again(p);
		/* the survey that it waits for may never be made: the scout was stopped */
		if (p->sock.fd < 0 && !scout_has(run->scout, p->survey))
			process_answer_farewell(p);
		if (p->gone || p->mm->dead || !zd_uffd_mm_alive(zd_mm_uffd(p->mm)))
			process_free(p);
		else
			settle_out(p);
	}
}

bool processes_waiting(const struct run *run)
{
	const struct process *p;

	cds_list_for_each_entry(p, &run->processes, node)
		if (p->gone || p->mm->dead || p->sock.fd < 0 || p->dismissed_ns)
			return true;
	return false;
}

/* --- what the server asks --- */

static bool unknown_fault(struct zd_mm *mm, uint64_t addr)
{
	if (mm->host_data)
		process_look_again(mm->host_data);
	return scan_unknown(mm->host_data, addr);
}

static void forked(struct zd_mm *parent_mm, struct zd_mm *mm)
{
	struct process *parent = parent_mm->host_data;
	struct process *p = process_new(parent->run, mm);

	if (!p) {
		/* nothing can be done for a process that has no struct */
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

/* The identity page answers with the id of the process that reads it, the farewell when
 * the process has no agent any more; the rest of the agent's memory is never missing but
 * for a moment after a fork. */
static bool own_fault(struct zd_mm *mm, uint64_t addr)
{
	static uint64_t page[ZD_PAGE_SIZE / sizeof(uint64_t)]
		__attribute__((aligned(ZD_PAGE_SIZE)));
	struct process *p = mm->host_data;

	if (!p || addr < p->lo || addr >= p->hi)
		return false;
	if (addr == p->identity + ZD_FAREWELL && process_farewell_waits(p))
		return true;
	page[0] = addr == p->identity ? p->id : 0;
	if (zd_uffd_copy(zd_mm_uffd(mm), addr, page, ZD_PAGE_SIZE, true) < 0)
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
	return true;
}

static bool kept(struct zd_mm *mm, uint64_t addr)
{
	const struct process *p = mm->host_data;

	return p && scan_is_kept(p, addr);
}

const struct zd_server_host run_host = {
	.kept = kept,
	.unknown_fault = unknown_fault,
	.forked = forked,
	.died = died,
	.kill = kill_process,
	.own_fault = own_fault,
	.resync = budget_resync,
};
