/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run/agent/elf.h"
#include "run/command.h"
#include "run/exit.h"
#include "zonedev/log.h"

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* The path of @cmd, as execvp() would find it.  0 or -errno. */
static int find_program(const char *cmd, char *path, size_t len)
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
	for (;; dirs = end + 1) {
		end = strchrnul(dirs, ':');
		if ((size_t)snprintf(path, len, "%.*s%s%s", (int)(end - dirs), dirs,
				     end > dirs ? "/" : "", cmd) < len &&
		    is_program(path))
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
		return NULL;	/* executable but not readable: only exec can tell */
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

int command_check(const char *cmd, char *path, size_t len)
{
	const char *why;

	switch (find_program(cmd, path, len)) {
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
