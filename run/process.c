/* SPDX-License-Identifier: MIT */
/* The life of a managed process, and the descriptors that it has; see process.h. */
#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "engine/exit.h"
#include "run/proc.h"
#include "run/process.h"
#include "run/run.h"
#include "run/scout.h"

#define FDS_OF_PROC	2	/* in fds_of(): the first of /proc/PID */

/* The @i-th of the descriptors, NULL behind the last. */
static int *fds_of(struct process *p, unsigned int i)
{
	int *const fd[] = {
		&p->pidfd,    &p->sock.fd,   &p->maps_fd, &p->pagemap_fd,
		&p->statm_fd, &p->status_fd, &p->mem_fd,
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

/* Close what process_attach() has opened in /proc. */
void process_close_proc(struct process *p)
{
	int *fd;

	for (unsigned int i = FDS_OF_PROC; (fd = fds_of(p, i)); i++) {
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

/* How many descriptors the supervisor may have. */
static int run_files(const struct run *run)
{
	rlim_t max = run->in.limit[RLIMIT_NOFILE].rlim_max;

	return max < INT_MAX ? (int)max : INT_MAX;
}

/* @tid is mostly the agent's, because a program's main thread may have ended, and then shows
 * no memory, while other threads live on. */
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
		.grows_max = p->run->server.limit * ZD_PAGE_SIZE / SURVEY_GROWS_SHARE,
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
	/* the last quarter of all descriptors is for forks: a process that has forked waits
	 * until its event is read, and that takes a descriptor for the child */
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

void process_free(struct process *p)
{
	int *fd;

	if (p->sock.fd >= 0)
		zd_loop_remove(&p->run->server.loop, &p->sock);
	zd_mm_destroy(p->mm);
	for (unsigned int i = 0; (fd = fds_of(p, i)); i++)
		if (*fd >= 0)
			close(*fd);
	cds_list_del(&p->node);
	scout_release(p->run->scout, p->survey);
	if (p->run->patrolled == p)
		p->run->patrolled = NULL;
	zd_free(p->found);
	zd_free(p->unevictable);
	zd_free(p);
}

int process_tell_agent(struct process *p, char what)
{
	if (send(p->sock.fd, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		return -errno;
	return 0;
}
