/* SPDX-License-Identifier: MIT */
/*
 * The part of the preloaded library that stands in front of libc's calls.
 *
 *	preload_exec.c   exec and posix_spawn: who won't have an agent
 *	preload_look.c   the look at the file, and the word to the supervisor
 *	preload_clone.c  threads that are made by hand
 *	preload_asan.c   a sanitizer that wants to come first
 *
 * A program may define open(), send() or strstr() for itself, and the loader would give
 * those to this library as well.  So libc is not called by name here: what the library
 * stands in front of it finds behind itself (RTLD_NEXT), all else are system calls.  (Left
 * are the loader's dlsym() and its like, pthread_atfork(), and pthread_mutex_lock(), which
 * alone tells a thread's id without a system call.)
 */
#ifndef ZD_RUN_AGENT_PRELOAD_H
#define ZD_RUN_AGENT_PRELOAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "run/agent/agent_proto.h"

#define PATH_LEN	1024	/* of a stack that may be small */

struct preload {
	bool on;
	char name[ZD_AGENT_NAME];
	char token[ZD_AGENT_TOKEN];
	char path[PATH_LEN];	/* of the library, as LD_PRELOAD names it */
};

extern struct preload preload;

/* preload_clone.c: in the program's memory, where the supervisor reads it */
extern struct zd_agent_words preload_words;

/* preload_look.c; by system calls only, none of which changes errno */
int preload_open(int dir, const char *path);	/* -1: nothing to look at */
int preload_open_file(const char *file);	/* as execvp() finds it */
void preload_close(int fd);
/* Why what is in @fd won't have an agent (enum zd_agent_unmanaged), 0: it will, or it can't
 * be seen.  The supervisor is told. */
int preload_look(int fd, char *const envp[]);

bool preload_is_hidden(void);	/* does the loader not find the library here? */

/* The thread's id as libc knows it, without a system call: a seccomp filter of the
 * program might kill for one that the program itself never makes. */
static inline pid_t preload_own_id(void)
{
	pthread_mutex_t mutex = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
	pid_t id;

	pthread_mutex_lock(&mutex);
	id = mutex.__data.__owner;
	pthread_mutex_unlock(&mutex);
	return id;
}

static inline size_t preload_length(const char *s)
{
	size_t n = 0;

	while (((const volatile char *)s)[n])	/* no call of strlen(), please */
		n++;
	return n;
}

static inline bool preload_begins(const char *s, const char *with)
{
	while (*with && *s == *with)
		s++, with++;
	return !*with;
}

/* The first @what in @s, or NULL. */
static inline const char *preload_find(const char *s, const char *what)
{
	for (; *s; s++)
		if (preload_begins(s, what))
			return s;
	return NULL;
}

static inline void preload_copy(char *to, const char *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((volatile char *)to)[i] = from[i];
}

/* Is "NAME=VALUE" one that zonedev has put there? */
static inline bool preload_is_ours(const char *variable)
{
	return preload_begins(variable, ZD_AGENT_ENV "=") ||
	       preload_begins(variable, ZD_AGENT_ENV_ALONE "=") ||
	       preload_begins(variable, ZD_AGENT_ENV_OLD "=");
}

/* A variable's value in @envp, or NULL. */
static inline const char *preload_lookup(char *const envp[], const char *name)
{
	size_t len = preload_length(name);

	for (size_t i = 0; envp && envp[i]; i++)
		if (preload_begins(envp[i], name) && envp[i][len] == '=')
			return envp[i] + len + 1;
	return NULL;
}

#endif
