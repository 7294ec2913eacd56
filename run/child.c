/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <sys/wait.h>

#include "base/time.h"
#include "engine/server.h"
#include "run/child.h"

#define TOLD_NS	1000000000ull	/* a SIGSTOP that comes later has another reason */

bool child_is_alive(const struct child *child)
{
	return child->pid > 0 && !child->done;
}

void child_ended(struct child *child, int status)
{
	child->done = true;
	child->status = status;
	child->end_ns = zd_now_ns();
}

void child_reap(struct child *child)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
		if (pid != child->pid)
			continue;
		if (WIFSTOPPED(status) || WIFCONTINUED(status))
			child->stopped = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
		else
			child_ended(child, status);
	}
}

bool child_stops_by(int sig)
{
	return sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

void child_told(struct child *child, int sig)
{
	if (child_stops_by(sig))
		child->told_to_stop_ns = zd_now_ns();
	else if (sig == SIGCONT)
		child->told_to_stop_ns = 0;
}

/* By the same signal as the program, since the shell says which. */
static void stop_by(int sig)
{
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, sig);
	raise(sig);	/* SIGSTOP acts now, another when it is unblocked */
	sigprocmask(SIG_UNBLOCK, &set, &old);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

void child_stop_with(struct child *child)
{
	int sig = child->stopped;
	bool late = zd_now_ns() - child->told_to_stop_ns > TOLD_NS;

	if (!child->told_to_stop_ns || !sig)
		return;
	child->told_to_stop_ns = 0;
	if (!child_stops_by(sig) && late)
		return;
	child->stopped = 0;
	stop_by(child_stops_by(sig) ? sig : SIGSTOP);
}
