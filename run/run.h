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
	uint64_t resync_ns, tick_ns, patrol_after_ns;
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

/* signals.c */
/* Before there are threads; signals_give_back(): in the child, for the program. */
void signals_block(struct run *run);
void signals_give_back(const struct run *run);
int signals_open(struct run *run);
/* In the half that goes to the background: there is nothing to pass on any more. */
void signals_background(struct run *run);
void signals_close(struct run *run);

#endif
