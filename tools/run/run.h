/* SPDX-License-Identifier: MIT */
/*
 * `zonedev run`: the supervisor.
 *
 *	cmd_run.c     options
 *	supervise.c   the loop, the end
 *	launch.c      the program
 *	link.c        greeting agents
 *	agent_link.c  the mover that works through an agent
 *	process.c     the managed processes
 *	scan.c        registering their memory
 *	scout.c, survey.c  finding it, in a thread of its own
 *	budget.c      how much RAM they use; the tick
 *	signals.c     signals and the program's status
 *	report.c      what happened
 */
#ifndef ZD_RUN_H
#define ZD_RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <urcu/list.h>

#include "mm/guard.h"
#include "mm/keeper.h"
#include "mm/library.h"
#include "mm/mm.h"
#include "mm/server.h"
#include "tools/run/agent_proto.h"
#include "tools/run/scout.h"

struct run;

/* One address space that is managed. */
struct process {
	struct run *run;
	struct cds_list_head node;	/* run->processes */
	struct zd_mm *mm;
	uint64_t family;		/* id of the first of its forks */
	uint64_t id;			/* on its identity page */
	pid_t pid;			/* -1: a forked child that hasn't said hello */
	pid_t tid;			/* its agent's: the main thread may end before the rest */
	int pidfd;
	struct zd_source sock;		/* its agent; fd -1: none */
	struct zd_agent_ring *ring;
	uint64_t lo, hi, staging, identity;
	int maps_fd, pagemap_fd, statm_fd, status_fd, mem_fd;
	uint64_t vm_size;		/* pages, at the last scan */
	uint64_t anon;			/* resident anonymous pages, last reading */
	uint64_t pss, anon_at_pss;	/* of a family: the share, and when */
	uint64_t pss_at_ns, scan_at_ns, trace_at_ns;
	bool traced;			/* a debugger is there: pages stay home */
	struct zd_homing homing;
	bool gone;			/* its end is known: reap it */
	uint64_t lost_ns;		/* since when it has no agent any more */
	struct survey *survey;
	uint64_t survey_after_ns;
	bool refused_busy;		/* a page of it was shared once, or is pinned */
	bool in_family;			/* shares pages with others */
	struct zd_ranges found;		/* by the last survey; to be managed from here on */
	size_t next_found;
	uint64_t *kept;			/* pages that stay in RAM, sorted */
	size_t nr_kept;
	uint64_t patrol;		/* address that scan_patrol() has come to */
};

struct options {
	const char *device;
	uint64_t ram;			/* bytes */
	const char *report;
	bool progress, no_children, quiet, verbose;
	char **argv;			/* CMD [ARG...] */
};

struct run {
	struct options opt;
	struct zd_server server;
	struct zd_device *dev;
	struct cds_list_head processes;
	uint64_t next_id;
	struct zd_source listen;
	char socket_name[64];
	char token[ZD_AGENT_TOKEN + 1];
	int report_fd;
	struct zd_source sig;
	sigset_t user_mask;		/* as we were started, for the program */
	struct rlimit user_files;	/* the same: RLIMIT_NOFILE */
	void (*user_chld)(int);		/* SIGCHLD and SIGPIPE: ignored? */
	void (*user_pipe)(int);
	pid_t child;
	bool child_done, child_managed;
	bool child_stopped, child_obeyed;	/* obeyed: SIGTSTP */
	uint64_t told_to_stop_ns;	/* 0: not */
	int child_status;		/* as waitpid() tells it */
	uint64_t start_ns, end_ns;
	bool engaged;			/* memory is being registered */
	uint64_t resync_ns, tick_ns, requeue_ns;
	uint64_t peak;			/* resident pages */
	uint64_t nr_processes, nr_unmanaged;
	uint64_t progress_ns;
	struct run_guard {		/* two, so that the death of one is no chance */
		struct zd_guard guard;
		struct zd_source end;	/* readable when it has been killed */
	} guards[2];
	struct zd_keeper keeper;
	struct scout *scout;
	struct process *patrolled;	/* NULL: a round begins */
};

/* supervise.c: all of it; returns the exit status. */
int supervise(struct run *run, const char *path, const char *preload);

/* link.c */
int link_open(struct run *run);
void link_close(struct run *run);

/* agent_link.c: gives @p its mover, over an open sock and ring. */
void agent_link_init(struct process *p);
/* From the agent: the request is done. */
void agent_link_done(struct process *p);

/* process.c */
struct process *process_new(struct run *run, struct zd_mm *mm);
/* Its pid is known: open what /proc has on it. */
int process_attach(struct process *p, pid_t pid, int pidfd);
/* The agent is gone: the process exec'ed, ended, or is about to. */
void process_lost_agent(struct process *p);
/* Destroy those that are gone.  Between two polls. */
void processes_reap(struct run *run);
/* Is there any whose end is near, that is, worth a look soon? */
bool processes_waiting(const struct run *run);
struct process *process_by_id(struct run *run, uint64_t id);
extern const struct zd_server_host run_host;

/* scan.c */
/* Ask for a survey.  False: not yet, the last was a moment ago. */
bool scan(struct process *p);
/* Do some of what the last survey asks for; true: there is more. */
bool scan_step(struct process *p);
/* A step in looking for resident pages that no queue has; false: no more here. */
bool scan_patrol(struct process *p);
/* Must this page be in RAM? */
bool scan_is_kept(const struct process *p, uint64_t addr);
/* A fault outside what we know: adopt its mapping. */
bool scan_unknown(struct process *p, uint64_t addr);

/* budget.c */
void budget_resync(struct zd_server *server);
/* What is to be done from time to time; returns ms until the next time. */
int budget_tick(struct run *run);
/* The scout's scout_start() callback. */
void budget_survey_made(void *run);

/* signals.c */
int signals_open(struct run *run);
void signals_close(struct run *run);
/* End as the program ended. */
int signals_exit_as(int status);

/* report.c */
/* Before the program starts, so that there is no surprise at its end. */
int report_open(struct run *run);
int report_write(struct run *run);
void report_summary(struct run *run);
void report_progress(struct run *run, bool last);

#endif
