/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/run/launch.h"

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

static bool has_interpreter(int fd, const Elf64_Ehdr *eh)
{
	for (unsigned int i = 0; i < eh->e_phnum; i++) {
		Elf64_Phdr ph;

		if (pread(fd, &ph, sizeof(ph), eh->e_phoff + i * sizeof(ph)) != sizeof(ph))
			return false;
		if (ph.p_type == PT_INTERP)
			return true;
	}
	return false;
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
		else if (!has_interpreter(fd, &eh))
			why = "is statically linked, and zonedev can't get into it";
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
		cmd_error("%s is not an executable program", cmd);
		return 126;
	default:
		cmd_error("%s: command not found", cmd);
		return 127;
	}
	why = unmanageable(path);
	if (why)
		return cmd_error("%s %s: run it without zonedev", cmd, why);
	return 0;
}

static void set_environment(const struct run *run, const char *preload)
{
	const char *old = getenv("LD_PRELOAD");
	char value[PATH_MAX + 4096];
	struct stat ns;

	if (old && *old) {
		setenv("ZONEDEV_OLD_PRELOAD", old, 1);
		snprintf(value, sizeof(value), "%s:%s", preload, old);
	} else {
		snprintf(value, sizeof(value), "%s", preload);
	}
	setenv("LD_PRELOAD", value, 1);
	snprintf(value, sizeof(value), "%s:%s:%llu", run->socket_name, run->token,
		 stat("/proc/self/ns/pid", &ns) ? 0ULL : (unsigned long long)ns.st_ino);
	setenv(ZD_AGENT_ENV, value, 1);
	if (run->opt.no_children)
		setenv(ZD_AGENT_ENV_ALONE, "1", 1);
}

static void become_program(const struct run *run, const char *path, const char *preload, int report,
			   pid_t parent)
{
	int error;

	/* also if we die before there is an agent, or a guard that knows it */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	signal(SIGPIPE, run->user_pipe);
	signal(SIGCHLD, run->user_chld);
	sigprocmask(SIG_SETMASK, &run->user_mask, NULL);
	setrlimit(RLIMIT_NOFILE, &run->user_files);
	set_environment(run, preload);
	execv(path, run->opt.argv);
	error = errno;
	if (error == ENOEXEC) {	/* a script without #!, as execvp() treats it */
		size_t n = 0;

		while (run->opt.argv[n])
			n++;
		char *argv[n + 2];

		argv[0] = (char *)"sh";
		argv[1] = (char *)path;
		memcpy(argv + 2, run->opt.argv + 1, n * sizeof(*argv));
		execv("/bin/sh", argv);
	}
	if (write(report, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(126);
}

int launch(struct run *run, const char *path, const char *preload)
{
	pid_t parent = getpid();
	int report[2], error = 0;

	if (pipe2(report, O_CLOEXEC))
		return -errno;
	run->child = fork();
	if (run->child < 0) {
		error = errno;
		close(report[0]);
		close(report[1]);
		return -error;
	}
	if (!run->child)
		become_program(run, path, preload, report[1], parent);
	close(report[1]);
	if (read(report[0], &error, sizeof(error)) != sizeof(error))
		error = 0;
	close(report[0]);
	if (error)
		waitpid(run->child, NULL, 0);
	return -error;
}
