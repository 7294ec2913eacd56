/* SPDX-License-Identifier: MIT */
/*
 * Signals that the supervisor gets, so that `zonedev run CMD` behaves as CMD.
 *
 * The program is a child of the supervisor, and not what the user started: the report
 * must be there, with the program's status in it, and the device free, when the command
 * returns, and only the parent of a process learns how the process ended and can let its own
 * starter wait until then.  So the starter knows the supervisor's pid, and signals that pid
 * instead of the program's.
 *
 * All signals are blocked and read from a signalfd, but those that a fault raises, which have
 * a handler.  They go to the program by pass_on.c.  What comes of the supervisor's own doings
 * (SIGPIPE, a limit, its children) is not passed on.
 */
#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "run/run.h"
#include "run/signals.h"

/* A fault raises them, and must find them unblocked: these have a handler. */
static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };

#define NR_FAULTS	(sizeof(faults) / sizeof(faults[0]))

static struct sigaction fault_before[NR_FAULTS];
static volatile sig_atomic_t fault_sent[NR_FAULTS];	/* by a process, and not passed on yet */
static volatile pid_t fault_from[NR_FAULTS];

/* As the supervisor was started, for the program. */
static sigset_t user_mask;
static void (*user_chld)(int), (*user_pipe)(int);	/* SIGCHLD, SIGPIPE: ignored? */

/* Sent by no other process, neither to this one nor to its group? */
static bool is_own(const struct signalfd_siginfo *si)
{
	int sig = si->ssi_signo;

	if (si->ssi_code <= 0)
		return (pid_t)si->ssi_pid == getpid();
	return sig == SIGCHLD ||
	       (si->ssi_code == SI_KERNEL && (sig == SIGXCPU || child_stops_by(sig)));
}

static void take(struct run *run, const struct signalfd_siginfo *si)
{
	struct question q = {
		.sig = si->ssi_signo, .code = si->ssi_code, .pid = si->ssi_pid,
		.uid = si->ssi_uid, .value = si->ssi_ptr,
	};

	child_told(&run->child, q.sig);
	if (is_own(si))
		return;
	if (q.sig == SIGCONT && witness_continue(&run->witness)) {
		pass_on_now(&run->pass_on, &q);
		q.passed = true;	/* the witness's answer will be of no interest */
	}
	pass_on(&run->pass_on, &q);
}

static void sig_ready(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, sig);
	struct signalfd_siginfo si;

	(void)events;
	while (!pass_on_is_full(&run->pass_on) && read(source->fd, &si, sizeof(si)) == sizeof(si)) {
		/* also if a process sent it: that SIGCHLD hides one by which the kernel tells
		 * of a child */
		if (si.ssi_signo == SIGCHLD)
			child_reap(&run->child);
		take(run, &si);
	}
	for (unsigned int i = 0; i < NR_FAULTS && !pass_on_is_full(&run->pass_on); i++) {
		struct question q = { .sig = faults[i], .pid = fault_from[i] };

		if (!fault_sent[i])
			continue;
		fault_sent[i] = 0;
		pass_on(&run->pass_on, &q);
	}
	child_stop_with(&run->child);
}

/*
 * One of faults[].  When a process sent it, the loop is to pass it on.  Else the fault is the
 * supervisor's own: it happens again when the handler returns, and is not caught any more.
 *
 * Context: a signal handler, in any thread of the supervisor but the scout.
 */
static void on_fault(int sig, siginfo_t *si, void *context)
{
	bool sent = si->si_code <= 0 && si->si_pid != getpid();
	int error = errno;

	(void)context;
	for (unsigned int i = 0; i < NR_FAULTS; i++) {
		if (faults[i] != sig)
			continue;
		if (!sent) {
			sigaction(sig, &fault_before[i], NULL);
			continue;
		}
		fault_from[i] = si->si_pid;
		fault_sent[i] = 1;
		kill(getpid(), SIGCHLD);	/* wakes the loop */
	}
	errno = error;
	if (sent)
		return;
	if (si->si_code <= 0)
		raise(sig);
}

/* The signals that are read, not handled. */
static void wanted(sigset_t *set)
{
	sigfillset(set);
	for (unsigned int i = 0; i < NR_FAULTS; i++)
		sigdelset(set, faults[i]);
}

void signals_block(void)
{
	struct sigaction act = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigset_t set;

	wanted(&set);
	sigprocmask(SIG_BLOCK, &set, &user_mask);
	for (unsigned int i = 0; i < NR_FAULTS; i++)
		sigaction(faults[i], &act, &fault_before[i]);
	user_pipe = signal(SIGPIPE, SIG_IGN);
	/* the starter may have it ignored: then the kernel would not tell of a child's end */
	user_chld = signal(SIGCHLD, SIG_DFL);
}

void signals_give_back(void)
{
	for (unsigned int i = 0; i < NR_FAULTS; i++)
		sigaction(faults[i], &fault_before[i], NULL);
	signal(SIGPIPE, user_pipe);
	signal(SIGCHLD, user_chld);
	sigprocmask(SIG_SETMASK, &user_mask, NULL);
}

int signals_open(struct run *run)
{
	sigset_t set;
	int rc;

	wanted(&set);
	run->sig.ready = sig_ready;
	run->sig.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (run->sig.fd < 0)
		return -errno;
	rc = zd_loop_add(&run->server.loop, &run->sig);
	if (rc)
		return rc;
	return pass_on_open(&run->pass_on, &run->server, &run->witness, &run->child,
			    run->in.own_session || run->in.own_group);
}

void signals_background(struct run *run)
{
	pass_on_without_witness(&run->pass_on);
	witness_forget(&run->witness);
}

void signals_close(struct run *run)
{
	run->child.done = true;
	pass_on_without_witness(&run->pass_on);
	zd_loop_remove(&run->server.loop, &run->sig);
	close(run->sig.fd);
}
