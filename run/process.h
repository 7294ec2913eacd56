/* SPDX-License-Identifier: MIT */
/*
 * A managed process: one struct per address space, from its agent's hello (or its parent's
 * fork event) until the kernel says that the address space is gone.  The agent's socket ends
 * earlier, when the agent does; an address space without an agent is served as ever, but
 * nothing is moved out of it.
 *
 * All of it belongs to the server's thread.  struct zd_mm has a pointer to it (host_data).
 */
#ifndef ZD_RUN_PROCESS_H
#define ZD_RUN_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <urcu/list.h>

#include "engine/homing.h"
#include "engine/mm.h"
#include "engine/server.h"
#include "run/survey.h"

struct run;
struct zd_agent_ring;

struct process {
	struct run *run;
	struct cds_list_head node;	/* run->processes */
	struct zd_mm *mm;
	uint64_t family;		/* id of the first of its forks */
	uint64_t id;			/* on its identity page */
	pid_t pid;			/* -1: a forked child that hasn't said hello */
	int pidfd;
	bool gone;			/* its end is known: reap it */

	/* the agent */
	pid_t tid;			/* of the agent; /proc shows the address space under it */
	bool agent_thread;		/* the agent is a thread of the program */
	struct zd_source sock;		/* to the agent; fd -1: there is none */
	struct zd_agent_ring *ring;
	ino_t ring_ino;			/* of the ring's memfd: what tells the address space */
	uint64_t lo, hi, staging, identity, clear_tids;	/* as its hello has them */
	uint64_t dismissed_ns;		/* since when it has been told to end; 0: it hasn't */
	uint64_t lost_ns;		/* since when there is no agent any more */
	bool reopened;			/* agent_lost_reopen() has been done */
	bool refused_busy;		/* a page was refused: it was shared once, or is pinned */

	/* /proc's files on the memory; -1: not open */
	int maps_fd, pagemap_fd, statm_fd, status_fd, mem_fd;

	/* budget.c: pages */
	uint64_t anon;			/* resident anonymous ones, last reading */
	uint64_t anon_at_first;		/* of a forked child; 0: not read yet */
	bool in_family;			/* shares pages with others */
	uint64_t pss, anon_at_pss;	/* of a family: the share, and anon at that time */
	uint64_t pss_at_ns;

	/* scan.c */
	struct survey *survey;
	uint64_t survey_after_ns;	/* no other before */
	uint64_t scan_at_ns, vm_size;	/* when the last was asked for, and statm's size then */
	struct found *found;		/* by the last survey */
	size_t nr_found, next_found;	/* to be managed from next_found on */
	uint64_t *unevictable;		/* addresses of pages that stay in RAM, sorted */
	size_t nr_unevictable;
	uint64_t patrol_at;		/* address that patrol() has come to */

	/* tracer.c */
	bool traced;			/* a debugger is there: pages stay home */
	uint64_t trace_at_ns;		/* when that was looked at */
	struct zd_homing homing;	/* under way while .end is set */
};

/*
 * process_new - a process with @mm, which becomes the process's.
 *
 * Its pid and the agent's are still unknown.  NULL: no memory; @mm is still the caller's.
 */
struct process *process_new(struct run *run, struct zd_mm *mm);
/* Also ends @p's zd_mm.  Not from inside a call by the server for that zd_mm. */
void process_free(struct process *p);

/*
 * process_attach - the pid and the agent's are known (@agent 0: a thread of the program).
 *
 * Opens what /proc has on @p.  On success @pidfd is the process's.  0 or -errno.
 */
int process_attach(struct process *p, pid_t pid, pid_t agent, int pidfd);

/* What /proc has on the memory, through task @tid of @pid.  On -errno some may be open. */
int process_open_memory(struct process *p, pid_t pid, pid_t tid);
void process_close_proc(struct process *p);
/* A survey of the address space that is seen through task @tid of @memory.  0 or -errno. */
int process_new_survey(const struct process *p, pid_t pid, pid_t memory, pid_t tid,
		       struct survey **survey);

struct process *process_by_id(struct run *run, uint64_t id);

/* To the agent: ZD_AGENT_GO, ZD_AGENT_BYE.  0 or -errno.  Never blocks. */
int process_tell_agent(struct process *p, char what);

#endif
