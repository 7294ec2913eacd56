/* SPDX-License-Identifier: MIT */
/*
 * Signals, so that `zonedev run CMD` behaves as CMD.
 *
 * What the terminal sends (^C, ^\, ^Z) goes to the whole foreground group, the
 * program included: we must only not die of it.  What somebody sends to us by
 * pid is meant for the program, and is passed on.
 *
 * When ^Z, or whoever else told us to stop, has stopped the program we stop as
 * well, so that the shell sees it; and as the shell it will continue both.
 * When the program alone is told to stop we go on: it would be continued alone,
 * and hang at its first page that is away.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/run/run.h"

static const int passed_on[] = {
	SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT, SIGTSTP, SIGWINCH,
};

static void reap_child(struct run *run)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
		if (pid != run->child)
			continue;
		if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
			run->child_stopped = WIFSTOPPED(status);
			run->child_obeyed = WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP;
			continue;
		}
		run->child_done = true;
		run->child_status = status;
		run->end_ns = zd_now_ns();
	}
}

#define TOLD_NS	1000000000ull	/* longer ago, SIGSTOP has another reason */

static void stop_with_child(struct run *run)
{
	if (!run->told_to_stop_ns || !run->child_stopped)
		return;
	if (!run->child_obeyed && zd_now_ns() - run->told_to_stop_ns > TOLD_NS) {
		run->told_to_stop_ns = 0;
		return;
	}
	run->told_to_stop_ns = 0;
	run->child_stopped = false;
	raise(SIGSTOP);
}

static void sig_ready(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, sig);
	struct signalfd_siginfo si;

	(void)events;
	while (read(source->fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGTSTP)
			run->told_to_stop_ns = zd_now_ns();
		else if (si.ssi_signo == SIGCONT)
			run->told_to_stop_ns = 0;
		if (si.ssi_signo == SIGCHLD)
			reap_child(run);
		else if (si.ssi_code <= 0 && run->child > 0 && !run->child_done)
			kill(run->child, si.ssi_signo);	/* from a process, not the terminal */
	}
	stop_with_child(run);
}

static void wanted(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	for (unsigned int i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		sigaddset(set, passed_on[i]);
}

int signals_open(struct run *run)
{
	sigset_t set;

	wanted(&set);
	sigprocmask(SIG_BLOCK, &set, &run->user_mask);
	run->user_pipe = signal(SIGPIPE, SIG_IGN);
	/* ignored, as whoever starts us may have it, nobody tells us of a child's end */
	run->user_chld = signal(SIGCHLD, SIG_DFL);
	run->sig.ready = sig_ready;
	run->sig.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (run->sig.fd < 0)
		return -errno;
	return zd_server_add(&run->server, &run->sig);
}

void signals_close(struct run *run)
{
	zd_server_remove(&run->server, &run->sig);
	close(run->sig.fd);
}

int signals_exit_as(int status)
{
	const struct rlimit no_core = { 0, 0 };
	sigset_t set;

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	/* die of the same signal: the core, if any, was the program's */
	setrlimit(RLIMIT_CORE, &no_core);
	prctl(PR_SET_DUMPABLE, 0);
	signal(WTERMSIG(status), SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, WTERMSIG(status));
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}
