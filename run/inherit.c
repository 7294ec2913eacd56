/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "run/inherit.h"

extern char **environ;

/* --- limits --- */

/* To infinity?  Not RLIMIT_CORE, since a core is to be the program's, and not RLIMIT_NOFILE,
 * which has no infinity. */
static bool is_raised(int resource)
{
	return resource != RLIMIT_CORE && resource != RLIMIT_NOFILE;
}

static void raise_limits(struct inherited *in)
{
	struct rlimit cpu;

	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit more = { RLIM_INFINITY, RLIM_INFINITY };

		in->limited[i] = !getrlimit(i, &in->limit[i]);
		if (!in->limited[i] || i == RLIMIT_CORE)
			continue;
		/* refused without CAP_SYS_RESOURCE: then up to the hard limit */
		if (is_raised(i) && !setrlimit(i, &more))
			continue;
		more.rlim_cur = more.rlim_max = in->limit[i].rlim_max;
		setrlimit(i, &more);
	}
	if (!getrlimit(RLIMIT_CPU, &cpu) && cpu.rlim_max != RLIM_INFINITY)
		in->cpu_seconds = cpu.rlim_max ? cpu.rlim_max : 1;
}

/* --- the end of the starter, sessions, groups, scheduling --- */

/* Does the supervisor lead its session or group?  Then the program is to, but not with a
 * controlling terminal: there the shell manages the groups, and a group of the program's own
 * would be in the background. */
static void look_who_leads(struct inherited *in)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (tty >= 0)
		close(tty);
	if (tty >= 0 || errno != ENXIO)
		return;
	in->own_session = getsid(0) == in->pid;
	in->own_group = getpgrp() == in->pid;
}

void inherit_lead(const struct inherited *in)
{
	if (in->own_session)
		setsid();
	else if (in->own_group)
		setpgid(0, 0);
}

static uint64_t pidfd_inode(void)
{
	int fd = syscall(SYS_pidfd_open, getpid(), 0);
	struct stat st;
	uint64_t ino = 0;

	if (fd < 0)
		return 0;
	if (!fstat(fd, &st))
		ino = st.st_ino;
	close(fd);
	return ino;
}

void inherit_begin(struct inherited *in)
{
	const struct zd_sched other = { .size = sizeof(other), .policy = SCHED_OTHER };

	in->cwd = -1;
	in->pid = getpid();
	in->pidfd_ino = pidfd_inode();
	raise_limits(in);
	if (prctl(PR_GET_PDEATHSIG, &in->deathsig))
		in->deathsig = 0;
	if (prctl(PR_GET_CHILD_SUBREAPER, &in->subreaper))
		in->subreaper = 0;
	if (syscall(SYS_sched_getattr, 0, &in->sched, sizeof(in->sched), 0))
		in->sched.size = 0;
	/* a task of SCHED_DEADLINE can't fork; the program gets the deadline back */
	if (in->sched.size && in->sched.policy == SCHED_DEADLINE)
		syscall(SYS_sched_setattr, 0, &other, 0);
	look_who_leads(in);
}

/* --- the working directory --- */

void inherit_leave_cwd(struct inherited *in)
{
	int fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	/* the child couldn't enter it again: stay */
	if (faccessat(fd, ".", X_OK, AT_EACCESS) || chdir("/")) {
		close(fd);
		return;
	}
	in->cwd = fd;
}

/* --- timers --- */

void inherit_read_timers(struct inherited *in)
{
	for (int i = 0; i < ZD_NR_TIMERS; i++)
		if (getitimer(i, &in->timer[i]))
			memset(&in->timer[i], 0, sizeof(in->timer[i]));
}

void inherit_forked(struct inherited *in)
{
	const struct itimerval none = { { 0, 0 }, { 0, 0 } };

	for (int i = 0; i < ZD_NR_TIMERS; i++)
		setitimer(i, &none, NULL);
	if (in->cwd >= 0)
		close(in->cwd);
	in->cwd = -1;
}

/* --- what names the process --- */

/* LISTEN_PID, WATCHDOG_PID, SYSTEMD_EXEC_PID and their like: the starter tells the process
 * that it starts its pid, and the program compares that with its own. */
static void rename_pid(const char *name, size_t len, uint64_t old, uint64_t new)
{
	char key[128], text[32];

	if (len >= sizeof(key))
		return;
	memcpy(key, name, len);
	key[len] = '\0';
	snprintf(text, sizeof(text), "%llu", (unsigned long long)old);
	if (strcmp(name + len + 1, text))
		return;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)new);
	setenv(key, text, 1);
}

static bool ends_with(const char *name, size_t len, const char *end)
{
	size_t n = strlen(end);

	return len >= n && !strncasecmp(name + len - n, end, n);
}

/* Variables that name the supervisor are to name the program. */
static void rename_pids(const struct inherited *in)
{
	for (size_t i = 0; environ[i]; i++) {
		const char *entry = environ[i];
		size_t len = strcspn(entry, "=");

		if (entry[len] != '=')
			continue;
		if (ends_with(entry, len, "PIDFDID") && in->pidfd_ino)
			rename_pid(entry, len, in->pidfd_ino, pidfd_inode());
		else if (ends_with(entry, len, "PID"))
			rename_pid(entry, len, in->pid, getpid());
	}
}

/* --- all of it --- */

void inherit_give(const struct inherited *in)
{
	struct zd_sched now = { .size = 0 };

	rename_pids(in);
	if (in->cwd >= 0 && fchdir(in->cwd))
		_exit(126);
	if (in->subreaper)
		prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	/* where SCHED_RESET_ON_FORK has reset them */
	if (in->sched.size && !syscall(SYS_sched_getattr, 0, &now, sizeof(now), 0) &&
	    (now.policy != in->sched.policy || now.nice != in->sched.nice ||
	     now.priority != in->sched.priority || now.flags != in->sched.flags))
		syscall(SYS_sched_setattr, 0, &in->sched, 0);
	for (int i = 0; i < RLIM_NLIMITS; i++)
		if (in->limited[i] && i != RLIMIT_CORE)
			setrlimit(i, &in->limit[i]);
	for (int i = 0; i < ZD_NR_TIMERS; i++)
		if (timerisset(&in->timer[i].it_value))
			setitimer(i, &in->timer[i], NULL);
	/* last: until here it is SIGKILL (launch.c) */
	prctl(PR_SET_PDEATHSIG, in->deathsig, 0, 0, 0);
}

/*
 * A thread that waits for a page waits for the supervisor.  A lower nice value of the
 * supervisor would show in the program's getpriority(PRIO_PGRP) and (PRIO_USER); so it takes
 * the shortest time slice (base/sched.h), and the nice value only where there are no slices.
 */
void inherit_be_prompt(const struct inherited *in)
{
	struct zd_sched want = in->sched, got = { .size = 0 };

	if (!in->sched.size || in->sched.policy != SCHED_OTHER)
		return;
	want.runtime = ZD_SCHED_SLICE_MIN_NS;
	if (!syscall(SYS_sched_setattr, 0, &want, 0) &&
	    !syscall(SYS_sched_getattr, 0, &got, sizeof(got), 0) &&
	    got.runtime == ZD_SCHED_SLICE_MIN_NS)
		return;
	setpriority(PRIO_PROCESS, 0, in->sched.nice - 10);
}
