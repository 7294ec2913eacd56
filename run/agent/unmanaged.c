/* SPDX-License-Identifier: MIT */
/*
 * Programs that won't have an agent: found out before they are exec'ed, and the supervisor is
 * told why.
 *
 * Whatever is not as expected, and every error, is left to exec itself: these functions only
 * look, and what the supervisor hears is a guess of what the loader will do.  Only regular
 * files are opened: the opening of another could be noticed.
 *
 * Context: as preload.h says; at most PATH_LEN and a few hundred bytes of stack.
 */
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/rawsys.h"
#include "run/agent/elf.h"
#include "run/agent/preload.h"

struct preload preload;

int program_open(int dir, const char *path)
{
	struct stat st;

	if (!path || raw_syscall(SYS_newfstatat, dir, (long)path, (long)&st, 0, 0, 0) ||
	    !S_ISREG(st.st_mode))
		return -1;
	return raw_syscall(SYS_openat, dir, (long)path,
			   O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0, 0, 0);
}

void program_close(int fd)
{
	if (fd >= 0)
		raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

static size_t until(const char *s, char c)
{
	size_t n = 0;

	while (s[n] && s[n] != c)
		n++;
	return n;
}

int program_open_in_path(const char *file)
{
	const char *dirs = env_value(environ, "PATH");
	char path[PATH_LEN];
	size_t len, name;
	int fd;

	if (!file || file[until(file, '/')])
		return program_open(AT_FDCWD, file);
	name = text_length(file) + 1;
	for (dirs = dirs ? dirs : "/bin:/usr/bin";; dirs += len + 1) {
		len = until(dirs, ':');
		if (len + 1 + name <= sizeof(path)) {
			text_copy(path, dirs, len);
			path[len] = '/';
			text_copy(path + len + (len > 0), file, name);
			fd = raw_syscall(SYS_access, (long)path, X_OK, 0, 0, 0, 0) ?
				     -1 :
				     program_open(AT_FDCWD, path);
			if (fd >= 0)
				return fd;
		}
		if (!dirs[len])
			return -1;
	}
}

/* Will the kernel set AT_SECURE for the program in @fd?  Then the loader ignores LD_PRELOAD. */
static bool is_privileged(int fd)
{
	uid_t user = raw_syscall(SYS_geteuid, 0, 0, 0, 0, 0, 0);
	gid_t group = raw_syscall(SYS_getegid, 0, 0, 0, 0, 0, 0);
	struct stat st;
	char caps[64];

	if (raw_syscall(SYS_fstat, fd, (long)&st, 0, 0, 0, 0))
		return false;
	if (st.st_mode & S_ISUID && st.st_uid != user)
		return true;
	if (st.st_mode & S_ISGID && st.st_mode & S_IXGRP && st.st_gid != group)
		return true;
	return user && raw_syscall(SYS_fgetxattr, fd, (long)"security.capability", (long)caps,
				   sizeof(caps), 0, 0) > 0;
}

static int why_elf(int fd, const Elf64_Ehdr *eh)
{
	if (eh->e_ident[EI_CLASS] != ELFCLASS64)
		return ZD_UNMANAGED_32BIT;
	switch (elf_loader(fd, eh)) {
	case ELF_STATIC:
		return ZD_UNMANAGED_STATIC;
	case ELF_OTHER:
		return ZD_UNMANAGED_LIBC;
	default:
		return 0;
	}
}

static int why_file(int fd, unsigned int depth)
{
	union {
		Elf64_Ehdr eh;
		char text[256];
	} head;
	char *name, *end;
	long n;
	int why;

	if (is_privileged(fd))
		return ZD_UNMANAGED_SUID;
	n = raw_syscall(SYS_pread64, fd, (long)&head, sizeof(head) - 1, 0, 0, 0);
	if (n >= (long)sizeof(head.eh) && head.text[0] == ELFMAG0 &&
	    text_begins(head.text + 1, "ELF"))
		return why_elf(fd, &head.eh);
	if (n < 3 || head.text[0] != '#' || head.text[1] != '!' || depth > 3)
		return 0;
	head.text[n] = '\0';
	for (name = head.text + 2; *name == ' ' || *name == '\t'; name++)
		;
	for (end = name; *end && *end != ' ' && *end != '\t' && *end != '\n'; end++)
		;
	*end = '\0';
	fd = program_open(AT_FDCWD, name);
	if (fd < 0)
		return 0;
	why = why_file(fd, depth + 1);
	program_close(fd);
	return why;
}

bool library_is_hidden(void)
{
	return raw_syscall(SYS_access, (long)preload.path, R_OK, 0, 0, 0, 0) != 0;
}

static int why_not(int fd, char *const envp[])
{
	const char *list = env_value(envp, "LD_PRELOAD");

	if (library_is_hidden())
		return ZD_UNMANAGED_HIDDEN;
	if (!env_value(envp, ZD_AGENT_ENV) || !list || !text_find(list, preload.path))
		return ZD_UNMANAGED_ENV;
	return why_file(fd, 0);
}

static void tell(int why)
{
	struct zd_agent_hello hello = {
		.magic = ZD_AGENT_MAGIC, .version = ZD_AGENT_VERSION,
		.kind = ZD_AGENT_UNMANAGED, .error = why,
	};
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t len = text_length(preload.name);
	long fd = raw_syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
			      0, 0, 0);

	if (fd < 0)
		return;
	text_copy(hello.token, preload.token, sizeof(hello.token));
	text_copy(sa.sun_path + 1, preload.name, len);
	if (!raw_syscall(SYS_connect, fd, (long)&sa,
			 offsetof(struct sockaddr_un, sun_path) + 1 + len, 0, 0, 0))
		raw_syscall(SYS_sendto, fd, (long)&hello, sizeof(hello),
			    MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
	program_close(fd);
}

int program_tell_unmanaged(int fd, char *const envp[])
{
	int why = why_not(fd, envp);

	if (why)
		tell(why);
	return why;
}
