/* SPDX-License-Identifier: MIT */
/*
 * The part of the preloaded library that stands in front of libc's calls.
 *
 *	exec_calls.c    exec, posix_spawn and chroot: the calls themselves
 *	unmanaged.c     which programs won't have an agent; the supervisor is told
 *	clone_call.c    clone(): threads that the program makes by hand
 *	asan_options.c  lets AddressSanitizer's runtime come second
 *
 * Context: any thread of the program, a signal handler, or a vfork()'s child.  So there is
 * no malloc() and no lock that is shared, and no call but libc's own changes errno.
 *
 * A program may define open(), send() or strstr() for itself, and the loader would give
 * those to this library as well.  So libc is not called by name here: the calls that the
 * library stands in front of are looked up behind it (RTLD_NEXT), all else are system calls.
 * (The exceptions are the loader's dlsym() and its like, pthread_atfork(), and
 * pthread_mutex_lock(), which alone tells a thread's id without a system call.)
 */
#ifndef ZD_RUN_AGENT_PRELOAD_H
#define ZD_RUN_AGENT_PRELOAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "run/agent/agent_proto.h"
#include "run/agent/text.h"

#define PATH_LEN	1024	/* short, since the stack may be small */

/* Written by exec_calls.c's constructor, and never again. */
struct preload {
	bool on;		/* the program was started by a supervisor */
	char name[ZD_AGENT_NAME];	/* of the supervisor's socket */
	char token[ZD_AGENT_TOKEN];
	char path[PATH_LEN];	/* of the library, as LD_PRELOAD names it */
};

extern struct preload preload;

/* clone_call.c: in the program's memory, where the supervisor reads it */
extern struct zd_agent_clear_tids clone_clear_tids;

/*
 * unmanaged.c
 *
 * program_open - the file that exec would run, or -1: nothing that can be looked at.
 * program_open_in_path - the same, found as execvp() finds it.
 */
int program_open(int dir, const char *path);
int program_open_in_path(const char *file);
void program_close(int fd);

/*
 * program_tell_unmanaged - will the program in @fd, started with @envp, have no agent?
 *
 * Then the supervisor is told, and the reason returned (enum zd_agent_unmanaged).  0: it will
 * have one, or there is no telling.
 */
int program_tell_unmanaged(int fd, char *const envp[]);

/* library_is_hidden - is the library out of the loader's sight (below a chroot)? */
bool library_is_hidden(void);

/* The thread's id as libc knows it, without a system call: a seccomp filter of the
 * program might kill for one that the program itself never makes. */
static inline pid_t own_tid(void)
{
	pthread_mutex_t mutex = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
	pid_t id;

	pthread_mutex_lock(&mutex);
	id = mutex.__data.__owner;
	pthread_mutex_unlock(&mutex);
	return id;
}

/* Is @variable, "NAME=VALUE", one that the supervisor has put into the environment? */
static inline bool env_is_ours(const char *variable)
{
	return text_begins(variable, ZD_AGENT_ENV "=") ||
	       text_begins(variable, ZD_AGENT_ENV_NO_CHILDREN "=") ||
	       text_begins(variable, ZD_AGENT_ENV_OLD "=");
}

/* A variable's value in @envp, or NULL. */
static inline const char *env_value(char *const envp[], const char *name)
{
	size_t len = text_length(name);

	for (size_t i = 0; envp && envp[i]; i++)
		if (text_begins(envp[i], name) && envp[i][len] == '=')
			return envp[i] + len + 1;
	return NULL;
}

#endif
