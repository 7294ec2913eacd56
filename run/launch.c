/* SPDX-License-Identifier: MIT */
/*
 * Starting the program.
 *
 * From its fork on the child dies with the supervisor: first by a parent-death signal, which
 * exec or a new user id may clear, then by the witness, which gets a pidfd of the child before
 * the child goes on, and in the end by an agent and the guards.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/launch.h"
#include "run/run.h"
#include "run/signals.h"

static void set_environment(const struct run *run, const char *preload)
{
	const char *old = getenv("LD_PRELOAD");
	char value[PATH_MAX + 4096];
	struct stat ns;

	if (old && *old) {
		setenv(ZD_AGENT_ENV_OLD, old, 1);
		snprintf(value, sizeof(value), "%s:%s", preload, old);
	} else {
		snprintf(value, sizeof(value), "%s", preload);
	}
	setenv("LD_PRELOAD", value, 1);
	snprintf(value, sizeof(value), "%s:%s:%llu", run->socket_name, run->token,
		 stat("/proc/self/ns/pid", &ns) ? 0ULL : (unsigned long long)ns.st_ino);
	setenv(ZD_AGENT_ENV, value, 1);
	if (run->opt.no_children)
		setenv(ZD_AGENT_ENV_NO_CHILDREN, "1", 1);
}

static void exec_program(const struct run *run, const char *path)
{
	size_t n = 0;

	execv(path, run->opt.argv);
	if (errno != ENOEXEC)
		return;
	/* a script without #!, as execvp() treats it */
	while (run->opt.argv[n])
		n++;
	char *argv[n + 2];

	argv[0] = (char *)"sh";
	argv[1] = (char *)path;
	memcpy(argv + 2, run->opt.argv + 1, n * sizeof(*argv));
	execv("/bin/sh", argv);
}

struct pipes {
	int go[2];		/* to the child: the witness watches it */
	int error[2];		/* from the child: why it could not be the program */
};

/* Context: the child, between fork and exec. */
static void become_program(const struct run *run, const char *path, const char *preload,
			   const struct pipes *pipes)
{
	int error;
	char go;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != run->in.pid)
		_exit(127);
	close(pipes->go[1]);
	inherit_lead(&run->in);
	if (read(pipes->go[0], &go, 1) != 1)
		_exit(127);
	set_environment(run, preload);
	signals_give_back();
	inherit_give(&run->in);
	exec_program(run, path);
	error = errno;
	if (write(pipes->error[1], &error, sizeof(error)) < 0)
		_exit(126);
	_exit(126);
}

/* The witness kills the child when the supervisor dies. */
static int watch_child(struct run *run)
{
	int fd = syscall(SYS_pidfd_open, run->child.pid, 0), rc;

	if (fd < 0)
		return -errno;
	rc = witness_guard(&run->witness, fd);
	close(fd);
	return rc;
}

int launch(struct run *run, const char *path, const char *preload)
{
	struct pipes pipes;
	int error = 0;

	if (pipe2(pipes.go, O_CLOEXEC))
		return -errno;
	if (pipe2(pipes.error, O_CLOEXEC)) {
		error = errno;
		goto err_go;
	}
	inherit_read_timers(&run->in);
	run->child.pid = fork();
	if (run->child.pid < 0) {
		error = errno;
		goto err_error;
	}
	if (!run->child.pid)
		become_program(run, path, preload, &pipes);
	inherit_forked(&run->in);
	close(pipes.error[1]);
	error = -watch_child(run);
	if (!error && write(pipes.go[1], "g", 1) != 1)
		error = errno;
	close(pipes.go[1]);	/* if nothing was written, the child exits */
	close(pipes.go[0]);
	if (!error && read(pipes.error[0], &error, sizeof(error)) != sizeof(error))
		error = 0;
	close(pipes.error[0]);
	if (error)
		waitpid(run->child.pid, NULL, 0);
	return -error;

err_error:
	close(pipes.error[0]);
	close(pipes.error[1]);
err_go:
	close(pipes.go[0]);
	close(pipes.go[1]);
	return -error;
}
