/* SPDX-License-Identifier: MIT */
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

#include "run/agent/elf.h"
#include "run/exit.h"
#include "run/launch.h"
#include "zonedev/log.h"

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* As execvp() would find it. */
static int find(const char *cmd, char *path, size_t len)
{
	const char *dirs = getenv("PATH"), *end;

	if (strchr(cmd, '/')) {
		if ((size_t)snprintf(path, len, "%s", cmd) >= len)
			return -ENAMETOOLONG;
		if (access(path, F_OK))
			return -ENOENT;
		return is_program(path) ? 0 : -EACCES;
	}
	if (!dirs)
		dirs = "/usr/local/bin:/usr/bin:/bin";
	for (; ; dirs = end + 1) {
		end = strchrnul(dirs, ':');
		if ((size_t)snprintf(path, len, "%.*s%s%s", (int)(end - dirs), dirs,
				     end > dirs ? "/" : "", cmd) < len && is_program(path))
			return 0;
		if (!*end)
			return -ENOENT;
	}
}

/* Why the agent would not be loaded, or NULL. */
static const char *unmanageable(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *why = NULL;
	struct stat st;
	Elf64_Ehdr eh;

	if (fd < 0)
		return NULL;	/* executable but not readable: try it */
	if (!fstat(fd, &st) && st.st_mode & S_ISUID && st.st_uid != geteuid())
		why = "is set-user-ID, and the loader would not load zonedev into it";
	else if (pread(fd, &eh, sizeof(eh), 0) == sizeof(eh) &&
		 !memcmp(eh.e_ident, ELFMAG, SELFMAG)) {
		if (eh.e_ident[EI_CLASS] != ELFCLASS64)
			why = "is a 32-bit program";
		else if (elf_loader(fd, &eh) == ELF_STATIC)
			why = "is statically linked, and zonedev can't get into it";
		else if (elf_loader(fd, &eh) == ELF_OTHER)
			why = "is linked with another libc than glibc";
	}
	close(fd);
	return why;
}

int launch_check(const char *cmd, char *path, size_t len)
{
	const char *why;

	switch (find(cmd, path, len)) {
	case 0:
		break;
	case -EACCES:
		zd_log(ZD_LOG_ERR, "%s is not an executable program", cmd);
		return RUN_EXIT_NOT_EXECUTABLE;
	default:
		zd_log(ZD_LOG_ERR, "%s: command not found", cmd);
		return RUN_EXIT_NOT_FOUND;
	}
	why = unmanageable(path);
	if (!why)
		return 0;
	zd_log(ZD_LOG_ERR, "%s %s: run it without zonedev", cmd, why);
	return RUN_EXIT_FAILED;
}

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
	int go[2];		/* to the child: the witness knows it */
	int error[2];		/* from the child: why it could not be the program */
};

static void become_program(const struct run *run, const char *path, const char *preload,
			   const struct pipes *pipes)
{
	int error;
	char go;

	/* until the witness, or an agent and the guard, see to it */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != run->in.pid)
		_exit(127);
	close(pipes->go[1]);
	inherit_lead(&run->in);
	if (read(pipes->go[0], &go, 1) != 1)
		_exit(127);
	set_environment(run, preload);
	signals_give_back(run);
	inherit_give(&run->in);
	exec_program(run, path);
	error = errno;
	if (write(pipes->error[1], &error, sizeof(error)) < 0)
		_exit(126);
	_exit(126);
}

/* From now on the child dies with the supervisor, whatever it does. */
static int watch_child(struct run *run)
{
	int fd = syscall(SYS_pidfd_open, run->child, 0), rc;

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
	run->child = fork();
	if (run->child < 0) {
		error = errno;
		goto err_error;
	}
	if (!run->child)
		become_program(run, path, preload, &pipes);
	inherit_forked(&run->in);
	close(pipes.error[1]);
	error = -watch_child(run);
	if (!error && write(pipes.go[1], "g", 1) != 1)
		error = errno;
	close(pipes.go[1]);	/* with nothing written, it ends */
	close(pipes.go[0]);
	if (!error && read(pipes.error[0], &error, sizeof(error)) != sizeof(error))
		error = 0;
	close(pipes.error[0]);
	if (error)
		waitpid(run->child, NULL, 0);
	return -error;

err_error:
	close(pipes.error[0]);
	close(pipes.error[1]);
err_go:
	close(pipes.go[0]);
	close(pipes.go[1]);
	return -error;
}
