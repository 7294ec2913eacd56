/* SPDX-License-Identifier: MIT */
/*
 * `zonedev run`: the supervisor's state.
 *
 * The files of this room, lowest first; a file calls those above it, never those below.
 *
 *   What the supervisor is given, and what it starts
 *	inherit.c      what the program is to find as if there were no supervisor
 *	user_fds.c     the descriptors that the user gave
 *	child.c        how the program stands: stopped, ended
 *	exit.c         the exit status
 *	guards.c       they end the program when the supervisor is killed
 *	witness.c      a process that knows which signals went to the whole process group
 *	pass_on.c      signals go on to the program
 *	signals.c      signals come in
 *	command.c      which file CMD is, and whether an agent can get in
 *	launch.c       starting it
 *
 *   The processes that are managed
 *	proc.c         /proc's files on a task
 *	survey*.c      one look at one address space
 *	scout.c        the thread that makes surveys
 *	process.c      one struct per address space
 *	agent_end.c    how agents end in good order
 *	agent_lost.c   a process that has lost its agent
 *	mover_agent.c  moving pages through an agent
 *	greet.c        what becomes of an agent's hello
 *	link.c         the socket at which agents announce themselves
 *	manage.c       registering memory
 *	scan.c         from a survey's findings to managed memory
 *	agent/         the agent itself, which lives in the program
 *
 *   What is done about them
 *	close.c        the end of a device
 *	tiers.c        the devices, under the user's names
 *	removal.c      a device is taken away
 *	budget.c       how much RAM they use
 *	tracer.c       debuggers
 *	patrol.c       looking for pages that no queue has
 *	reap.c         processes whose end is near or has come
 *	host.c         what the server asks
 *	advice.c       more RAM would help
 *	report*.c      what happened
 *	control.c      the socket for `zonedev stat` and `zonedev remove`
 *	tick.c         all of this from time to time
 *
 *   All together
 *	front.c        under a limit of CPU time: the process that the user started only waits
 *	background.c   going on in a copy of this process
 *	supervise.c    the loop, the end
 *
 * All of struct run belongs to the one thread that serves; the scout (scout.h) has nothing of it.
 */
#ifndef ZD_RUN_RUN_H
#define ZD_RUN_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <urcu/list.h>

#include "engine/server.h"
#include "guard/keeper.h"
#include "run/agent/agent_proto.h"
#include "run/child.h"
#include "run/control.h"
#include "run/guards.h"
#include "run/inherit.h"
#include "run/pass_on.h"
#include "run/removal.h"
#include "run/tiers.h"
#include "run/witness.h"

struct process;
struct scout;

struct options {
	const char *device[ZD_TIERS_MAX];	/* as they were named, fastest first */
	unsigned int nr_devices;	/* 0: the default */
	uint64_t ram;			/* bytes */
	const char *report;
	bool progress, no_children, quiet, verbose;
	char **argv;			/* CMD [ARG...] */
};

struct run {
	struct options opt;
	struct zd_server server;
	struct tier tiers[ZD_TIERS_MAX];
	unsigned int nr_tiers;
	uint64_t start_ns;

	/* the program, and what it inherits */
	struct child child;
	struct inherited in;
	struct witness witness;
	struct pass_on pass_on;
	struct zd_source sig;		/* signals.c: a signalfd */

	/* what kills the program when the supervisor is killed */
	struct guards guards;
	struct zd_keeper keeper;

	/* link.c */
	struct zd_source listen;
	char socket_name[64];		/* also the mark of the family (guard/family.h) */
	char token[ZD_AGENT_TOKEN + 1];

	/* the managed processes */
	struct cds_list_head processes;
	uint64_t next_id;
	uint64_t nr_processes, nr_unmanaged;	/* ever; that have been refused */
	uint64_t unmanaged[ZD_UNMANAGED_REASONS];	/* that never had an agent, and why */
	struct scout *scout;

	/* tick.c, budget.c, patrol.c */
	bool engaged;			/* memory is being registered */
	uint64_t resync_ns, tick_ns, patrol_after_ns;
	uint64_t peak;			/* pages: resident ones, and what devices keep in RAM */
	struct process *patrolled;	/* NULL: a round begins */

	/* advice.c: at the last look */
	uint64_t advice_ns, advice_faults;
	bool advised;

	/* report.c */
	int report_fd;
	bool report_again;		/* the report can be written anew */
	uint64_t progress_ns;

	struct removal removal;
	struct run_control control;

	/* front.c */
	struct zd_source front;		/* to the other process; fd -1: there is only this one */
	bool served;			/* in the front: the server is done, */
	int front_rc;			/* and its report was written, or -errno */

	/* background.c */
	bool background;		/* CMD has ended, and the user's shell has been told */
};

#endif
