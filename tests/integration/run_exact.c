/* SPDX-License-Identifier: MIT */
/*
 * For run_exact.sh and run_signals.sh.
 *
 *	run_exact show			what a program finds of itself, without what must
 *					differ (ids, times)
 *	run_exact start HOW CMD...	exec CMD with something that exec keeps: see start()
 *	run_exact listen FILE		block every signal, say "ready PID" in FILE, then a line
 *					for each signal: number, value; end with the 2nd SIGQUIT
 *	run_exact send PID VALUE SIG...	sigqueue(); VALUE -1: kill(), PID may be a group
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void show_file(const char *path)
{
	char line[256];
	FILE *f = fopen(path, "re");

	printf("%s: %s", path, f && fgets(line, sizeof(line), f) ? line : "none\n");
	if (f)
		fclose(f);
}

static void show_env(void)
{
	char pid[32];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	for (char **e = environ; *e; e++) {
		char *eq = strchr(*e, '=');

		if (eq && eq - *e >= 3 && !strncmp(eq - 3, "PID", 3))
			printf("%.*s: %s\n", (int)(eq - *e), *e,
			       !strcmp(eq + 1, pid) ? "the program" : eq + 1);
	}
}

static int show(void)
{
	struct itimerval it;
	struct rlimit r;
	cpu_set_t cpus;
	sigset_t set;
	char cwd[4096];
	int v = -1;

	printf("leads its group: %d, its session: %d\n", getpgrp() == getpid(),
	       getsid(0) == getpid());
	printf("pdeathsig: %d %d\n", prctl(PR_GET_PDEATHSIG, &v), v);
	printf("subreaper: %d %d\n", prctl(PR_GET_CHILD_SUBREAPER, &v), v);
	printf("nice: %d, of the group: %d\n", getpriority(PRIO_PROCESS, 0),
	       getpriority(PRIO_PGRP, 0));
	printf("policy: %d, ioprio: %ld, slack: %d\n", sched_getscheduler(0),
	       syscall(SYS_ioprio_get, 1, 0), prctl(PR_GET_TIMERSLACK));
	printf("personality: %x, securebits: %d, no new privileges: %d, keep: %d\n",
	       personality(0xffffffff), prctl(PR_GET_SECUREBITS),
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_DUMPABLE));
	sched_getaffinity(0, sizeof(cpus), &cpus);
	printf("CPUs: %d, umask: %o, cwd: %s\n", CPU_COUNT(&cpus), umask(0),
	       getcwd(cwd, sizeof(cwd)));
	for (int i = 0; i < (int)RLIM_NLIMITS; i++)
		if (!getrlimit(i, &r))
			printf("limit %d: %llx %llx\n", i, (unsigned long long)r.rlim_cur,
			       (unsigned long long)r.rlim_max);
	for (int i = 0; i < 3; i++)
		if (!getitimer(i, &it))
			printf("timer %d: %s, every %ld s\n", i, it.it_value.tv_sec ? "runs" : "no",
			       (long)it.it_interval.tv_sec);
	sigprocmask(SIG_SETMASK, NULL, &set);
	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		struct sigaction act;

		if (!sigaction(sig, NULL, &act) && act.sa_handler == SIG_IGN)
			printf("ignored: %d\n", sig);
		if (sigismember(&set, sig) == 1)
			printf("blocked: %d\n", sig);
	}
	show_file("/proc/self/oom_score_adj");
	show_file("/proc/self/coredump_filter");
	show_env();
	return 0;
}

static void name_me(void)
{
	char pid[32];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("WATCHDOG_PID", pid, 1);
	setenv("OWN_PID", pid, 1);
	setenv("OTHER_PID", "1", 1);
}

static int start(char **argv)
{
	const struct itimerval it = { { 7, 0 }, { 500, 0 } };
	const struct sched_param fifo = { .sched_priority = 3 };
	const char *how = argv[0];
	sigset_t set;

	sigemptyset(&set);
	if (!strcmp(how, "session")) {
		setsid();
	} else if (!strcmp(how, "group")) {
		setpgid(0, 0);
	} else if (!strcmp(how, "member")) {	/* of a group whose leader blocks all signals */
		setsid();
		sigfillset(&set);
		sigprocmask(SIG_BLOCK, &set, NULL);
		if (fork()) {
			wait(NULL);
			return 0;
		}
		sigprocmask(SIG_UNBLOCK, &set, NULL);
	} else if (!strcmp(how, "timers")) {
		for (int i = 0; i < 3; i++)
			setitimer(i, &it, NULL);
	} else if (!strcmp(how, "alarm")) {
		alarm(1);
	} else if (!strcmp(how, "death")) {
		prctl(PR_SET_PDEATHSIG, SIGUSR1);
	} else if (!strcmp(how, "reaper")) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
	} else if (!strcmp(how, "names")) {
		name_me();
	} else if (!strcmp(how, "fifo")) {
		if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &fifo))
			return 77;
	} else if (!strcmp(how, "signals")) {
		sigaddset(&set, SIGRTMIN + 1);
		sigaddset(&set, SIGUSR2);
		sigprocmask(SIG_SETMASK, &set, NULL);
		signal(SIGSYS, SIG_IGN);	/* (a fault's signal that no sanitizer handles) */
		signal(SIGCHLD, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		signal(SIGPIPE, SIG_IGN);
	} else if (!strcmp(how, "odd")) {
		umask(0123);
		nice(3);
		prctl(PR_SET_TIMERSLACK, 123456);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6);
		if (chdir("/proc"))
			return 1;
	}
	execvp(argv[1], argv + 1);
	return 127;
}

static int listen_to(const char *path)
{
	FILE *out = fopen(path, "we");
	unsigned int quits = 0;
	siginfo_t si;
	sigset_t all;

	if (!out)
		return 1;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	fprintf(out, "ready %d %d\n", (int)getpid(), (int)getpgrp());
	fflush(out);
	while (quits < 2) {
		int sig = sigwaitinfo(&all, &si);

		if (sig < 0)
			continue;
		quits += sig == SIGQUIT;
		fprintf(out, "%d %d\n", sig, si.si_code == SI_QUEUE ? si.si_value.sival_int : -1);
		fflush(out);
	}
	return 0;
}

static int send_all(int pid, int value, char **sigs)
{
	const union sigval v = { .sival_int = value };

	for (; *sigs; sigs++)
		if (value < 0 ? kill(pid, atoi(*sigs)) : sigqueue(pid, atoi(*sigs), v))
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "show"))
		return show();
	if (argc > 3 && !strcmp(argv[1], "start"))
		return start(argv + 2);
	if (argc > 2 && !strcmp(argv[1], "listen"))
		return listen_to(argv[2]);
	if (argc > 4 && !strcmp(argv[1], "send"))
		return send_all(atoi(argv[2]), atoi(argv[3]), argv + 4);
	return 2;
}
