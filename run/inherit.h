/* SPDX-License-Identifier: MIT */
/*
 * What execve(2) leaves as it is and fork(2) doesn't, or what the supervisor changes for
 * itself: the program is to find all of it as if it had been started by itself.
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
	uint64_t cpu_seconds;		/* RLIMIT_CPU of the supervisor itself; 0: none */
	struct itimerval timer[ZD_NR_TIMERS];
	struct zd_sched sched;
	int deathsig, subreaper;
	int cwd;			/* -1: the supervisor is still there */
	pid_t pid;			/* the supervisor's: the program's, had it no supervisor */
	uint64_t pidfd_ino;
	bool own_session, own_group;	/* the program is to lead one */
};

/* Before anything else: what the supervisor was given, and its own limits raised. */
void inherit_begin(struct inherited *in);
/* When no path of the user's is opened any more: leave the working directory. */
void inherit_leave_cwd(struct inherited *in);
/* Right before the fork, and in the supervisor right behind it. */
void inherit_read_timers(struct inherited *in);
void inherit_forked(struct inherited *in);
/* In the child: first of all; and last of all, before exec. */
void inherit_lead(const struct inherited *in);
void inherit_give(const struct inherited *in);
/* The supervisor answers at once, at its own nice value where the kernel lets it. */
void inherit_be_prompt(const struct inherited *in);

#endif
