/* SPDX-License-Identifier: MIT */
/*
 * exec and posix_spawn, as the program calls them.
 *
 * The agent's library comes into a program by LD_PRELOAD.  It doesn't come into a program that
 * is statically linked, set-user-ID, of 32 bits, of another libc, or whose environment has
 * lost the variables; and where the loader can't see the library, below a chroot, it complains
 * on the program's standard error.  So exec and posix_spawn come through here: the file is
 * looked at, the supervisor is told why there will be no agent, and where the loader would
 * look for the library in vain, or another libc's loader would fail because of it, LD_PRELOAD
 * is taken out of the environment that the program gets.
 *
 * Context: as exec itself: async-signal-safe, and no memory but the stack; and no more of
 * that than the call itself takes, unless the environment must change.  Each function ends in
 * libc's call of the same name, and never in another one of this file: what the program or
 * its libraries have put in front of one call is called for that one alone.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/rawsys.h"
#include "run/agent/preload.h"

#define EXPORT		__attribute__((visibility("default")))

static struct {
	int (*execve)(const char *path, char *const argv[], char *const envp[]);
	int (*execvpe)(const char *file, char *const argv[], char *const envp[]);
	int (*execv)(const char *path, char *const argv[]);
	int (*execvp)(const char *file, char *const argv[]);
	int (*fexecve)(int fd, char *const argv[], char *const envp[]);
	int (*execveat)(int dir, const char *path, char *const argv[], char *const envp[],
			int flags);
	int (*spawn)(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		     const posix_spawnattr_t *attr, char *const argv[], char *const envp[]);
	int (*spawnp)(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
		      const posix_spawnattr_t *attr, char *const argv[], char *const envp[]);
	int (*chroot)(const char *path);
} real;

/* libc's own calls, in which execl() and its like end, since those take no array. */
static struct {
	int (*execve)(const char *path, char *const argv[], char *const envp[]);
	int (*execvpe)(const char *file, char *const argv[], char *const envp[]);
} libc;

/* Context: exec_init(), or any call below before it: another library's constructor may start
 * a program. */
static void resolve_calls(void)
{
	void *own = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);

	own = own ? own : RTLD_NEXT;
	libc.execve = (typeof(libc.execve))dlsym(own, "execve");
	libc.execvpe = (typeof(libc.execvpe))dlsym(own, "execvpe");
	real.chroot = (typeof(real.chroot))dlsym(RTLD_NEXT, "chroot");
	real.execvpe = (typeof(real.execvpe))dlsym(RTLD_NEXT, "execvpe");
	real.execv = (typeof(real.execv))dlsym(RTLD_NEXT, "execv");
	real.execvp = (typeof(real.execvp))dlsym(RTLD_NEXT, "execvp");
	real.fexecve = (typeof(real.fexecve))dlsym(RTLD_NEXT, "fexecve");
	real.execveat = (typeof(real.execveat))dlsym(RTLD_NEXT, "execveat");
	real.spawn = (typeof(real.spawn))dlsym(RTLD_NEXT, "posix_spawn");
	real.spawnp = (typeof(real.spawnp))dlsym(RTLD_NEXT, "posix_spawnp");
	real.execve = (typeof(real.execve))dlsym(RTLD_NEXT, "execve");
}

/* --- an environment without the library --- */

static bool must_change(int why, char *const envp[])
{
	const char *list;

	if (why != ZD_UNMANAGED_HIDDEN && why != ZD_UNMANAGED_32BIT && why != ZD_UNMANAGED_LIBC)
		return false;
	list = env_value(envp, "LD_PRELOAD");
	return list && text_find(list, preload.path);
}

static size_t count(char *const v[])
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

/* Copy @envp to @out (as many entries), without the supervisor's variables, and without the
 * library in LD_PRELOAD, which goes to @text (as long as it was). */
static void leave_out(char *const envp[], char **out, char *text)
{
	static const char name[] = "LD_PRELOAD=";
	const char *list = env_value(envp, "LD_PRELOAD");
	const char *at = text_find(list, preload.path);
	size_t n = 0, len = sizeof(name) - 1;

	for (size_t i = 0; envp[i]; i++)
		if (!text_begins(envp[i], name) && !env_is_ours(envp[i]))
			out[n++] = envp[i];
	text_copy(text, name, len);
	text_copy(text + len, list, at - list);
	len += at - list;
	at += text_length(preload.path);
	at += *at == ':';
	text_copy(text + len, at, text_length(at) + 1);
	if (text[sizeof(name) - 1])
		out[n++] = text;
	out[n] = NULL;
}

/* --- the calls --- */

/*
 * Look at @fd_, close it if it was opened for that (@close_it), and return what @call says,
 * or @changed, which has env_ in place of @envp_.
 */
#define THROUGH(fd_, close_it, envp_, call, changed)				\
	do {									\
		int fd = preload.on ? (fd_) : -1;				\
		int why = fd >= 0 ? program_tell_unmanaged(fd, envp_) : 0;		\
										\
		if (close_it)							\
			program_close(fd);					\
		if (!real.execve)						\
			resolve_calls();						\
		if (must_change(why, envp_)) {					\
			char *env_[count(envp_) + 1];				\
			char text[text_length(env_value(envp_, "LD_PRELOAD")) + 12]; \
										\
			leave_out(envp_, env_, text);				\
			return changed;						\
		}								\
		return call;							\
	} while (0)

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	THROUGH(program_open(AT_FDCWD, path), true, envp, real.execve(path, argv, envp),
		real.execve(path, argv, env_));
}

EXPORT int execv(const char *path, char *const argv[])
{
	THROUGH(program_open(AT_FDCWD, path), true, environ, real.execv(path, argv),
		real.execve(path, argv, env_));
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	THROUGH(program_open_in_path(file), true, envp, real.execvpe(file, argv, envp),
		real.execvpe(file, argv, env_));
}

EXPORT int execvp(const char *file, char *const argv[])
{
	THROUGH(program_open_in_path(file), true, environ, real.execvp(file, argv),
		real.execvpe(file, argv, env_));
}

EXPORT int fexecve(int file, char *const argv[], char *const envp[])
{
	THROUGH(file, false, envp, real.fexecve(file, argv, envp), real.fexecve(file, argv, env_));
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	const char *volatile given = path;	/* the header says nonnull: keep the check */
	bool is_file = given && !*given;

	THROUGH(is_file ? dir : program_open(dir, path), !is_file, envp,
		real.execveat(dir, path, argv, envp, flags),
		real.execveat(dir, path, argv, env_, flags));
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	THROUGH(program_open(AT_FDCWD, path), true, envp,
		real.spawn(pid, path, actions, attr, argv, envp),
		real.spawn(pid, path, actions, attr, argv, env_));
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	THROUGH(program_open_in_path(file), true, envp,
		real.spawnp(pid, file, actions, attr, argv, envp),
		real.spawnp(pid, file, actions, attr, argv, env_));
}

/* The arguments of execl(), in an array; @ap is behind their NULL. */
#define LISTED(first, call)							\
	do {									\
		va_list ap;							\
		/* the header says nonnull; not every caller obeys */		\
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

static int run_listed(const char *path, char *const argv[], char *const envp[])
{
	THROUGH(program_open(AT_FDCWD, path), true, envp, libc.execve(path, argv, envp),
		libc.execve(path, argv, env_));
}

EXPORT int execl(const char *path, const char *arg, ...)
{
	int rc;

	LISTED(arg, rc = run_listed(path, argv, environ););
	return rc;
}

static int run_listed_file(const char *file, char *const argv[])
{
	THROUGH(program_open_in_path(file), true, environ, libc.execvpe(file, argv, environ),
		libc.execvpe(file, argv, env_));
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	int rc;

	LISTED(arg, rc = run_listed_file(file, argv););
	return rc;
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	int rc;

	LISTED(arg, rc = run_listed(path, argv, va_arg(ap, char **)););
	return rc;
}

/*
 * The shells that libc starts, for system(), popen() and wordexp(), get the environment as
 * it is.  So where the library has gone out of sight, LD_PRELOAD is taken out of the
 * environment here; but only by the program itself, not by a vfork()'s child, whose
 * environment is its parent's.
 */
EXPORT int chroot(const char *path)
{
	int rc;

	if (!real.execve)
		resolve_calls();
	rc = real.chroot(path);
	if (!rc && preload.on && own_tid() == raw_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0) &&
	    must_change(library_is_hidden() ? ZD_UNMANAGED_HIDDEN : 0, environ)) {
		static char text[PATH_LEN * 4];

		if (text_length(env_value(environ, "LD_PRELOAD")) + 12 <= sizeof(text))
			leave_out(environ, environ, text);
	}
	return rc;
}

/* --- setting up --- */

/* Runs before start.c's constructor, which may take the variables away. */
__attribute__((constructor(101))) static void exec_init(void)
{
	const char *env = env_value(environ, ZD_AGENT_ENV), *token, *ns;
	size_t len;
	Dl_info info;

	resolve_calls();
	if (!env || !zd_agent_env_parts(env, &token, &ns) ||
	    env_value(environ, ZD_AGENT_ENV_NO_CHILDREN) || !dladdr(&preload, &info))
		return;
	len = text_length(info.dli_fname);
	if (len >= sizeof(preload.path))
		return;
	text_copy(preload.name, env, token - 1 - env);
	text_copy(preload.token, token, ZD_AGENT_TOKEN);
	text_copy(preload.path, info.dli_fname, len + 1);
	preload.on = true;
}
