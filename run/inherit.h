/* SPDX-License-Identifier: MIT */
/*
 * What the program inherits as if there were no supervisor: limits, timers, scheduling, the
 * working directory, and what else execve(2) leaves as it is but fork(2) doesn't, or the
 * supervisor changes for itself.
 */
#ifndef ZD_RUN_INHERIT_H
#define ZD_RUN_INHERIT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/types.h>

#include "base/sched.h"

#define ZD_NR_TIMERS	3	/* ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF */

struct inherited {
	struct rlimit limit[RLIM_NLIMITS];
	bool limited[RLIM_NLIMITS];	/* the limit could be read */
	uint64_t cpu_seconds;		/* RLIMIT_CPU that binds the supervisor; 0: none */
	struct itimerval timer[ZD_NR_TIMERS];
	struct zd_sched sched;
	int deathsig, subreaper;
	int cwd;			/* -1: the supervisor is still there */
	pid_t pid;			/* the supervisor's, by which its starter knows the program */
	uint64_t pidfd_ino;		/* inode of a pidfd of the supervisor; 0: unknown */
	bool own_session, own_group;	/* the program is to lead one */
};

/* All while there is one thread, in this order; all but two in the supervisor. */

/* Before anything else: read what the supervisor was given, and raise its own limits. */
void inherit_begin(struct inherited *in);
/* When no path of the user's is opened any more: leave the working directory. */
void inherit_leave_cwd(struct inherited *in);
/* Right before the fork. */
void inherit_read_timers(struct inherited *in);
/* Right after the fork: timers and working directory are the child's now. */
void inherit_forked(struct inherited *in);

/* In the child, first of all: lead a session or a group. */
void inherit_lead(const struct inherited *in);
/* In the child, last of all before exec: all else.  May _exit(). */
void inherit_give(const struct inherited *in);

/* When the program runs: the supervisor runs at once when it is woken, with its own nice value
 * where the kernel allows that. */
void inherit_be_prompt(const struct inherited *in);

#endif
