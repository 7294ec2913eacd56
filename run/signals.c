/* SPDX-License-Identifier: MIT */
/*
 * Signals, so that `zonedev run CMD` behaves as CMD.
 *
 * The program is a child of the supervisor, and not what was started itself: the report
 * must be there, with the program's status in it, and the device free, when the command
 * returns, and only the parent of a process learns how it ended and can hold its own
 * starter until then.  So the starter knows the supervisor's pid, and signals it instead
 * of the program.
 *
 * Every signal that can be caught is passed on, once: those to the supervisor's pid, with
 * the value that came with them, but not those to its process group, which the program has
 * got by itself (witness.h tells the two apart; that takes a moment, and the order is
 * kept).  A program that leads a group of its own (inherit.h) gets the latter, too, with its
 * group.  What comes of the supervisor's own doings (SIGPIPE, a limit, its children) is
 * not passed on.
 *
 * When ^Z, or another stop signal to the supervisor, has stopped the program, the
 * supervisor stops as well, so that the shell sees it and continues both.  When the program
 * alone is told to stop the supervisor goes on: the program would be continued alone, and
 * hang at its first page that is away.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/run.h"

/* A fault raises them, and must find them unblocked: these have a handler. */
static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };

#define NR_FAULTS	(sizeof(faults) / sizeof(faults[0]))

static struct sigaction fault_before[NR_FAULTS];
static volatile sig_atomic_t fault_sent[NR_FAULTS];	/* by a process, and not passed on yet */
static volatile pid_t fault_from[NR_FAULTS];

/* --- the program's state --- */

static void reap_child(struct run *run)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
		if (pid != run->child)
			continue;
		if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
			run->child_stopped = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
			continue;
		}
		run->child_done = true;
		run->child_status = status;
		run->end_ns = zd_now_ns();
	}
}

static bool is_stop(int sig)
{
	return sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

#define TOLD_NS	1000000000ull	/* longer ago, SIGSTOP has another reason */

/* By the same signal: the shell says which. */
static void stop_by(int sig)
{
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, sig);
	raise(sig);	/* SIGSTOP acts now, another when it is unblocked */
	sigprocmask(SIG_UNBLOCK, &set, &old);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

static void stop_with_child(struct run *run)
{
	int sig = run->child_stopped;

	if (!run->told_to_stop_ns || !sig)
		return;
	if (!is_stop(sig) && zd_now_ns() - run->told_to_stop_ns > TOLD_NS) {
		run->told_to_stop_ns = 0;
		return;
	}
	run->told_to_stop_ns = 0;
	run->child_stopped = 0;
	stop_by(is_stop(sig) ? sig : SIGSTOP);
}

/* --- passing on --- */

static bool is_child_alive(const struct run *run)
{
	return run->child > 0 && !run->child_done;
}

static void pass_on(struct run *run, const struct question *q, bool to_group)
{
	siginfo_t si;

	if (!is_child_alive(run))
		return;
	if (to_group) {
		if (run->in.own_session || run->in.own_group)
			kill(-run->child, q->sig);
		return;
	}
	/* with its value; the kernel lets nobody pretend to be another's kill() */
	if (q->code < 0 && q->code != SI_TKILL) {
		memset(&si, 0, sizeof(si));
		si.si_signo = q->sig;
		si.si_code = q->code;
		si.si_pid = q->pid;
		si.si_uid = q->uid;
		si.si_value.sival_ptr = (void *)(uintptr_t)q->value;
		if (!syscall(SYS_rt_sigqueueinfo, run->child, q->sig, &si))
			return;
	}
	kill(run->child, q->sig);
}

/* No other process sent it, to this one or its group. */
static bool is_own(const struct signalfd_siginfo *si)
{
	int sig = si->ssi_signo;

	if (si->ssi_code <= 0)
		return (pid_t)si->ssi_pid == getpid();
	return sig == SIGCHLD || (si->ssi_code == SI_KERNEL && (sig == SIGXCPU || is_stop(sig)));
}

/* Without a witness: what a process sent was meant for the pid. */
static void guess(struct run *run, const struct question *q)
{
	if (!q->taken)
		pass_on(run, q, q->code > 0);
}

static void no_witness(struct run *run)
{
	if (run->answers.fd >= 0)
		zd_server_remove(&run->server, &run->answers);
	run->answers.fd = -1;
	for (; run->nr_questions; run->nr_questions--) {
		guess(run, &run->question[run->first_question]);
		run->first_question = (run->first_question + 1) % NR_QUESTIONS;
	}
}

static void ask(struct run *run, const struct question *q)
{
	if (run->answers.fd < 0 || witness_ask(&run->witness, q->sig)) {
		no_witness(run);
		guess(run, q);
		return;
	}
	run->question[(run->first_question + run->nr_questions++) % NR_QUESTIONS] = *q;
}

static void answers_ready(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, answers);
	struct question q;
	int in_group;

	(void)events;
	while (run->answers.fd >= 0) {
		in_group = witness_answer(&run->witness);
		if (in_group == -EAGAIN)
			return;
		if (in_group < 0 || !run->nr_questions) {
			no_witness(run);
			return;
		}
		q = run->question[run->first_question];
		run->first_question = (run->first_question + 1) % NR_QUESTIONS;
		run->nr_questions--;
		if (!q.taken)
			pass_on(run, &q, in_group);
	}
}

static void take(struct run *run, const struct signalfd_siginfo *si)
{
	struct question q = {
		.sig = si->ssi_signo, .code = si->ssi_code, .pid = si->ssi_pid,
		.uid = si->ssi_uid, .value = si->ssi_ptr,
	};

	if (is_stop(q.sig))
		run->told_to_stop_ns = zd_now_ns();
	else if (q.sig == SIGCONT)
		run->told_to_stop_ns = 0;
	if (is_own(si))
		return;
	if (q.sig == SIGCONT && witness_continue(&run->witness)) {
		pass_on(run, &q, false);
		q.taken = true;		/* what the witness has now is of no interest */
	}
	ask(run, &q);
}

static void sig_ready(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, sig);
	struct signalfd_siginfo si;

	(void)events;
	while (run->nr_questions < NR_QUESTIONS && read(source->fd, &si, sizeof(si)) == sizeof(si)) {
		/* from the kernel or not: one that was sent hides one that tells of a child */
		if (si.ssi_signo == SIGCHLD)
			reap_child(run);
		take(run, &si);
	}
	for (unsigned int i = 0; i < NR_FAULTS && run->nr_questions < NR_QUESTIONS; i++) {
		struct question q = { .sig = faults[i], .pid = fault_from[i] };

		if (!fault_sent[i])
			continue;
		fault_sent[i] = 0;
		ask(run, &q);
	}
	stop_with_child(run);
}

/* The six of faults[], when a process sent them: for the loop to pass on.  Else the fault is
 * the supervisor's: it happens again, with nobody to catch it. */
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

/* --- setting up --- */

static void wanted(sigset_t *set)
{
	sigfillset(set);
	for (unsigned int i = 0; i < NR_FAULTS; i++)
		sigdelset(set, faults[i]);
}

void signals_block(struct run *run)
{
	struct sigaction act = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigset_t set;

	wanted(&set);
	sigprocmask(SIG_BLOCK, &set, &run->user_mask);
	for (unsigned int i = 0; i < NR_FAULTS; i++)
		sigaction(faults[i], &act, &fault_before[i]);
	run->user_pipe = signal(SIGPIPE, SIG_IGN);
	/* ignored, as whoever starts us may have it, nobody tells us of a child's end */
	run->user_chld = signal(SIGCHLD, SIG_DFL);
}

void signals_give_back(const struct run *run)
{
	for (unsigned int i = 0; i < NR_FAULTS; i++)
		sigaction(faults[i], &fault_before[i], NULL);
	signal(SIGPIPE, run->user_pipe);
	signal(SIGCHLD, run->user_chld);
	sigprocmask(SIG_SETMASK, &run->user_mask, NULL);
}

int signals_open(struct run *run)
{
	sigset_t set;
	int rc;

	wanted(&set);
	run->answers.ready = answers_ready;
	run->answers.fd = run->witness.pid ? run->witness.sock : -1;
	run->sig.ready = sig_ready;
	run->sig.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (run->sig.fd < 0)
		return -errno;
	rc = zd_server_add(&run->server, &run->sig);
	if (!rc && run->answers.fd >= 0)
		rc = zd_server_add(&run->server, &run->answers);
	return rc;
}

void signals_background(struct run *run)
{
	no_witness(run);
	witness_forget(&run->witness);
}

void signals_close(struct run *run)
{
	run->child_done = true;
	no_witness(run);
	zd_server_remove(&run->server, &run->sig);
	close(run->sig.fd);
}
