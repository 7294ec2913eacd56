/* SPDX-License-Identifier: MIT */
/*
 * `zonedev run`: the supervisor.
 *
 *	cmd_run.c     options
 *	supervise.c   the loop, the end
 *	launch.c      the program
 *	elf.c         what an executable is
 *	front.c       with a limit of CPU time: who waits, and who serves
 *	inherit.c     what it is to find as if there were no supervisor
 *	exit.c        the exit status
 *	guards.c      who ends the program when the supervisor is killed
 *	link.c        greeting agents
 *	agent_link.c  the mover that works through an agent
 *	agent_end.c   how agents end, and what is seen without them
 *	process.c     the managed processes
 *	agent/        the agent, which lives in the program
 *	scan.c        registering their memory
 *	scout.c, survey.c  finding it, in a thread of its own
 *	budget.c      how much RAM they use; the tick
 *	advice.c      more RAM would help
 *	signals.c     signals and the program's status
 *	witness.c     was a signal sent to the whole process group?
 *	report.c      what happened
 */
#ifndef ZD_RUN_RUN_H
#define ZD_RUN_RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <urcu/list.h>

#include "guard/guard.h"
#include "guard/keeper.h"
#include "hmm/library.h"
#include "engine/mm.h"
#include "engine/server.h"
#include "run/agent/agent_proto.h"
#include "run/inherit.h"
#include "run/scout.h"
#include "run/witness.h"

struct run;

/* One address space that is managed. */
struct process {
	struct run *run;
	struct cds_list_head node;	/* run->processes */
	struct zd_mm *mm;
	uint64_t family;		/* id of the first of its forks */
	uint64_t id;			/* on its identity page */
	pid_t pid;			/* -1: a forked child that hasn't said hello */
	pid_t tid;			/* its agent's; /proc shows the address space under it */
	bool agent_thread;		/* the agent is a thread of the program */
	int pidfd;
	struct zd_source sock;		/* its agent; fd -1: none */
	struct zd_agent_ring *ring;
	uint64_t lo, hi, staging, identity, clear_tids;
	int maps_fd, pagemap_fd, statm_fd, status_fd, mem_fd;
	uint64_t vm_size;		/* pages, at the last scan */
	uint64_t anon;			/* resident anonymous pages, last reading */
	uint64_t anon_at_first;		/* of a forked child; 0: not read yet */
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
	struct found *found;		/* by the last survey */
	size_t nr_found, next_found;	/* to be managed from here on */
	uint64_t *kept;			/* pages that stay in RAM, sorted */
	size_t nr_kept;
	uint64_t patrol;		/* address that scan_patrol() has come to */
	uint64_t dismissed_ns;		/* since when its agent has been told to end; 0: not */
	ino_t ring_ino;			/* of the ring's memfd: what tells the address space */
	bool looked;			/* without an agent: what /proc has was opened anew */
};

struct options {
	const char *device;
	uint64_t ram;			/* bytes */
	const char *report;
	bool progress, no_children, quiet, verbose;
	char **argv;			/* CMD [ARG...] */
};

#define NR_QUESTIONS	64

/* A signal that the witness is asked about. */
struct question {
	int sig, code;
	pid_t pid;
	uid_t uid;
	uint64_t value;
	bool taken;			/* whatever the answer */
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
	bool report_again;		/* it can be written anew */
	struct zd_source sig;
	struct inherited in;
	struct zd_source front;		/* front.c; fd -1: this process is both */
	bool served;			/* the server is done: */
	int front_rc;			/* and its report was written, or -errno */
	bool background;		/* CMD has ended, and the starter has been told */
	struct witness witness;
	struct zd_source answers;	/* the witness's; fd -1: there is none */
	struct question question[NR_QUESTIONS];
	unsigned int first_question, nr_questions;
	sigset_t user_mask;		/* as we were started, for the program */
	void (*user_chld)(int);		/* SIGCHLD and SIGPIPE: ignored? */
	void (*user_pipe)(int);
	pid_t child;
	bool child_done, child_managed;
	int child_stopped;		/* by which signal; 0: it isn't */
	uint64_t told_to_stop_ns;	/* 0: not */
	int child_status;		/* as waitpid() tells it */
	uint64_t start_ns, end_ns;
	bool engaged;			/* memory is being registered */
	uint64_t resync_ns, tick_ns, requeue_ns;
	uint64_t peak;			/* resident pages */
	uint64_t nr_processes, nr_unmanaged;
	uint64_t unmanaged[ZD_UNMANAGED_REASONS];	/* never had an agent, and why */
	uint64_t progress_ns;
	uint64_t advice_ns, advice_faults;	/* advice.c: the last look */
	bool advised;
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

/* stdin, stdout and what else is open are the program's alone. */
void let_go_of_user(void);

/* front.c: the exit status; in the process that serves: -1. */
int front_run(struct run *run, const char *path, const char *preload);
/* There: the front launches the program; and what it is told. */
int front_launch(struct run *run);
void front_failed(struct run *run, int status);
/* @rc: of the report. */
void front_done(struct run *run, int rc);
/* Is it time to hand over to a new process? */
bool front_is_due(const struct run *run);

/* guards.c */
int guards_start(struct run *run);
void guards_stop(struct run *run);

/* link.c */
int link_open(struct run *run);
void link_close(struct run *run);

/* agent_link.c: gives @p its mover, over an open sock and ring. */
void agent_link_init(struct process *p);
/* To the agent: ZD_AGENT_GO, ZD_AGENT_BYE.  0 or -errno. */
int agent_link_say(struct process *p, char what);
/* From the agent: the request is done. */
void agent_link_done(struct process *p);

/* process.c */
struct process *process_new(struct run *run, struct zd_mm *mm);
/* Its pid and its agent's are known (@agent 0: a thread): open what /proc has on it. */
int process_attach(struct process *p, pid_t pid, pid_t agent, int pidfd);
/* A survey of the address space that is seen through task @tid of @memory. */
int process_new_survey(const struct process *p, pid_t pid, pid_t memory, pid_t tid,
		       struct survey **survey);
/* What /proc has on the memory, through that task.  On -errno some may be open. */
int process_open_memory(struct process *p, pid_t pid, pid_t tid);
void process_close_proc(struct process *p);
/* The agent is gone: the process exec'ed, ended, is about to, or the agent was killed. */
void process_lost_agent(struct process *p);
/* Destroy those that are gone.  Between two polls. */
void processes_reap(struct run *run);
/* Is there any whose end is near, that is, worth a look soon? */
bool processes_waiting(const struct run *run);
struct process *process_by_id(struct run *run, uint64_t id);
extern const struct zd_server_host run_host;

/* agent_end.c */
/* The agent shall end.  False: there is none that could be told to. */
bool process_dismiss_agent(struct process *p);
/* What process @pid was before it exec'ed, if its agent still keeps that. */
struct process *process_before_exec(struct run *run, pid_t pid, const struct process *now);
bool process_has_execed(const struct process *p);
/* A thread bids farewell, and must wait?  It asks again when it is answered. */
bool process_farewell_waits(struct process *p);
void process_answer_farewell(struct process *p);
/* The agent was told to end so long ago that the program shall not wait for it. */
bool process_farewell_late(const struct process *p);
/* The agent is gone, and with it what was seen of the address space through it; if
 * the program goes on it shows the same.  Once. */
void process_look_again(struct process *p);

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

/* advice.c: now and then */
void advise(struct run *run, uint64_t now);

/* signals.c */
/* Before there are threads; signals_give_back(): in the child, for the program. */
void signals_block(struct run *run);
void signals_give_back(const struct run *run);
int signals_open(struct run *run);
/* In the half that goes to the background: there is nothing to pass on any more. */
void signals_background(struct run *run);
void signals_close(struct run *run);

/* report.c */
/* Before the program starts, so that there is no surprise at its end. */
int report_open(struct run *run);
int report_write(struct run *run);
/* In the background half: it is written anew at the end, where that can be. */
void report_background(struct run *run);
/* Those that ran unmanaged, and why: in one warning. */
void report_unmanaged(struct run *run);
void report_summary(struct run *run);
void report_progress(struct run *run, bool last);

#endif
