/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a program that the program starts.
 *
 * Into some the loader can't or won't load the agent: statically linked ones, set-user-ID
 * ones, 32-bit ones, those that don't see the library (a chroot), those that are given
 * another environment.  They run unmanaged.  Here, where they are started, it is known
 * which and why: the supervisor is told, for its one warning.  And where the loader would
 * only complain, on the new program's standard error, the library is taken out of the
 * new program's environment.
 *
 * All of this may run in a child of vfork(): on its stack, with system calls, without
 * malloc, and it writes to nothing that the parent has.  errno is what the caller's exec
 * makes of it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tools/run/agent_proto.h"
#include "tools/run/elf.h"

#define EXPORT		__attribute__((visibility("default")))
#define PATH_LEN	1024	/* of a stack that may be small */

extern char **environ;

static struct {
	bool on;
	char name[ZD_AGENT_NAME];
	char token[ZD_AGENT_TOKEN];
	char library[PATH_LEN];	/* as LD_PRELOAD names it */
} self;

static struct {
	int (*execve)(const char *path, char *const argv[], char *const envp[]);
	int (*execvpe)(const char *file, char *const argv[], char *const envp[]);
	int (*fexecve)(int fd, char *const argv[], char *const envp[]);
	int (*execveat)(int dir, const char *path, char *const argv[], char *const envp[], int flags);
	int (*spawn)(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		     const posix_spawnattr_t *attr, char *const argv[], char *const envp[]);
	int (*spawnp)(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
		      const posix_spawnattr_t *attr, char *const argv[], char *const envp[]);
} real;

/* Also before exec_init(): another library's constructor may start a program. */
static void find_real(void)
{
	real.execvpe = (typeof(real.execvpe))dlsym(RTLD_NEXT, "execvpe");
	real.fexecve = (typeof(real.fexecve))dlsym(RTLD_NEXT, "fexecve");
	real.execveat = (typeof(real.execveat))dlsym(RTLD_NEXT, "execveat");
	real.spawn = (typeof(real.spawn))dlsym(RTLD_NEXT, "posix_spawn");
	real.spawnp = (typeof(real.spawnp))dlsym(RTLD_NEXT, "posix_spawnp");
	real.execve = (typeof(real.execve))dlsym(RTLD_NEXT, "execve");
}

/* --- why the agent would not be there --- */

/* As the kernel sets AT_SECURE. */
static bool is_privileged(int fd)
{
	struct stat st;
	char caps[64];

	if (fstat(fd, &st))
		return false;
	if (st.st_mode & S_ISUID && st.st_uid != geteuid())
		return true;
	if (st.st_mode & S_ISGID && st.st_mode & S_IXGRP && st.st_gid != getegid())
		return true;
	return geteuid() && fgetxattr(fd, "security.capability", caps, sizeof(caps)) > 0;
}

static int why_file(int fd, unsigned int depth)
{
	char head[256], *name, *end;
	Elf64_Ehdr *eh = (void *)head;
	ssize_t n;
	int why;

	if (is_privileged(fd))
		return ZD_UNMANAGED_SUID;
	n = pread(fd, head, sizeof(head) - 1, 0);
	if (n >= (ssize_t)sizeof(*eh) && !memcmp(eh->e_ident, ELFMAG, SELFMAG)) {
		if (eh->e_ident[EI_CLASS] != ELFCLASS64)
			return ZD_UNMANAGED_32BIT;
		return elf_is_dynamic(fd, eh) ? 0 : ZD_UNMANAGED_STATIC;
	}
	if (n < 3 || head[0] != '#' || head[1] != '!' || depth > 3)
		return 0;
	head[n] = '\0';
	name = head + 2 + strspn(head + 2, " \t");
	end = name + strcspn(name, " \t\n");
	*end = '\0';
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return 0;
	why = why_file(fd, depth + 1);
	close(fd);
	return why;
}

static const char *lookup(char *const envp[], const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; envp && envp[i]; i++)
		if (!strncmp(envp[i], name, len) && envp[i][len] == '=')
			return envp[i] + len + 1;
	return NULL;
}

static int why_not(int fd, char *const envp[])
{
	const char *preload = lookup(envp, "LD_PRELOAD");

	if (!lookup(envp, ZD_AGENT_ENV) || !preload || !strstr(preload, self.library))
		return ZD_UNMANAGED_ENV;
	if (access(self.library, R_OK))
		return ZD_UNMANAGED_HIDDEN;
	return why_file(fd, 0);
}

/* --- the supervisor is told --- */

static void tell(int why)
{
	struct zd_agent_hello hello = {
		.magic = ZD_AGENT_MAGIC, .version = ZD_AGENT_VERSION,
		.kind = ZD_AGENT_UNMANAGED, .error = why,
	};
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t len = strlen(self.name);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return;
	memcpy(hello.token, self.token, sizeof(hello.token));
	memcpy(sa.sun_path + 1, self.name, len);
	if (!connect(fd, (struct sockaddr *)&sa, offsetof(struct sockaddr_un, sun_path) + 1 + len))
		send(fd, &hello, sizeof(hello), MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static size_t count(char *const v[])
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

/* @envp for what is in @fd: itself, or in @out (as many entries) one without the library,
 * whose LD_PRELOAD is in @text. */
static char *const *prepare(int fd, char *const envp[], char **out, char *text)
{
	const char *preload, *at;
	size_t n = 0;
	int why;

	if (!self.on || fd < 0)
		return envp;
	why = why_not(fd, envp);
	if (why)
		tell(why);
	if (why != ZD_UNMANAGED_HIDDEN && why != ZD_UNMANAGED_32BIT)
		return envp;
	preload = lookup(envp, "LD_PRELOAD");
	at = strstr(preload, self.library);
	for (size_t i = 0; envp[i]; i++) {
		if (!strncmp(envp[i], "LD_PRELOAD=", 11))
			continue;
		if (strncmp(envp[i], "ZONEDEV_", 8))
			out[n++] = envp[i];
	}
	strcpy(text, "LD_PRELOAD=");
	strncat(text, preload, at - preload);
	strcat(text, at + strlen(self.library) + (at[strlen(self.library)] == ':'));
	if (text[11])
		out[n++] = text;
	out[n] = NULL;
	return out;
}

static int open_path(int dir, const char *path)
{
	return openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/* As execvp() finds it. */
static int open_file(const char *file)
{
	const char *dirs = getenv("PATH"), *end;
	char path[PATH_LEN];
	struct stat st;

	if (strchr(file, '/'))
		return open_path(AT_FDCWD, file);
	for (dirs = dirs ? dirs : "/bin:/usr/bin"; ; dirs = end + 1) {
		size_t len, name = strlen(file);

		end = strchrnul(dirs, ':');
		len = end - dirs;
		if (len + name + 2 < sizeof(path)) {
			memcpy(path, dirs, len);
			path[len] = '/';
			strcpy(path + len + (len > 0), file);
			if (!access(path, X_OK) && !stat(path, &st) && S_ISREG(st.st_mode))
				return open_path(AT_FDCWD, path);
		}
		if (!*end)
			return -1;
	}
}

/* --- the calls --- */

#define TEXT_LEN(envp)	(lookup(envp, "LD_PRELOAD") ? strlen(lookup(envp, "LD_PRELOAD")) + 12 : 12)

/* @call uses env_ in place of @envp. */
#define WITH(fd_, envp_, call)							\
	do {									\
		int opened = (fd_), result, error = errno;			\
		char *list[count(envp_) + 1], text[TEXT_LEN(envp_)];		\
		char *const *env_ = prepare(opened, envp_, list, text);		\
										\
		if (opened >= 0)						\
			close(opened);						\
		if (!real.execve)						\
			find_real();						\
		errno = error;							\
		result = (call);						\
		return result;							\
	} while (0)

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	WITH(self.on ? open_path(AT_FDCWD, path) : -1, envp,
	     real.execve(path, argv, (char **)env_));
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	WITH(!self.on ? -1 : *path ? open_path(dir, path) : fcntl(dir, F_DUPFD_CLOEXEC, 0), envp,
	     real.execveat(dir, path, argv, (char **)env_, flags));
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	WITH(self.on ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1, envp,
	     real.fexecve(fd, argv, (char **)env_));
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	WITH(self.on ? open_file(file) : -1, envp, real.execvpe(file, argv, (char **)env_));
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	WITH(self.on ? open_path(AT_FDCWD, path) : -1, envp,
	     real.spawn(pid, path, actions, attr, argv, (char **)env_));
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	WITH(self.on ? open_file(file) : -1, envp,
	     real.spawnp(pid, file, actions, attr, argv, (char **)env_));
}

/* The arguments of execl(), in an array; @ap is behind their NULL. */
#define LISTED(first, call)							\
	do {									\
		va_list ap;							\
		/* the header promises that there is one; not all keep that */	\
		const char *volatile head = (first);				\
		size_t n = 0;							\
										\
		va_start(ap, first);						\
		while (n ? va_arg(ap, char *) != NULL : head != NULL)		\
			n++;							\
		va_end(ap);							\
		char *argv[n + 1];						\
										\
		argv[0] = (char *)head;						\
		va_start(ap, first);						\
		for (size_t i = 1; i <= n; i++)					\
			argv[i] = va_arg(ap, char *);				\
		call								\
		va_end(ap);							\
	} while (0)

EXPORT int execl(const char *path, const char *arg, ...)
{
	int rc;

	LISTED(arg, rc = execve(path, argv, environ););
	return rc;
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	int rc;

	LISTED(arg, rc = execvpe(file, argv, environ););
	return rc;
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	int rc;

	LISTED(arg, rc = execve(path, argv, va_arg(ap, char **)););
	return rc;
}

/* --- setting up --- */

/* Before the agent, which may take the variables away. */
__attribute__((constructor(101))) static void exec_init(void)
{
	const char *env = getenv(ZD_AGENT_ENV), *token, *ns;
	Dl_info info;

	find_real();
	if (!env || !zd_agent_env_parts(env, &token, &ns) || getenv(ZD_AGENT_ENV_ALONE) ||
	    !dladdr(&self, &info) || strlen(info.dli_fname) >= sizeof(self.library))
		return;
	memcpy(self.name, env, token - 1 - env);
	memcpy(self.token, token, ZD_AGENT_TOKEN);
	strcpy(self.library, info.dli_fname);
	self.on = true;
}
