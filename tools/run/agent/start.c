/* SPDX-License-Identifier: MIT */
/*
 * When the program begins, forks and ends.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/run/agent/agent.h"

#define HEAD_BYTES	(16 * PAGE + STACK_BYTES + MIDDLE_BYTES + RING_BYTES)
#define RESERVE_BYTES	(2 * ZD_STAGING_BYTES + HEAD_BYTES)

struct agent agent;

/* The thread's id as libc knows it, without a system call: a seccomp filter of the
 * program might kill for one that the program itself never makes. */
static pid_t own_id(void)
{
	pthread_mutex_t mutex = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
	pid_t id;

	pthread_mutex_lock(&mutex);
	id = mutex.__data.__owner;
	pthread_mutex_unlock(&mutex);
	return id;
}

static void start(int kind)
{
	agent.kind = kind;
	agent.owner = own_id();	/* of a first or only thread: the process's */
	agent_birth();
}

static void forked_child(void)
{
	agent.parent = 0;
	start(ZD_AGENT_FORK);
}

/* identity, farewell | stack | middleman's stack | ring | staging, a PROT_NONE page
 * between any two */
static int lay_out(void)
{
	char *base = mmap(NULL, RESERVE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);
	char *identity, *staging;

	if (base == MAP_FAILED)
		return -errno;
	agent.nowhere = base + PAGE;
	identity = base + PAGE;
	agent.stack = identity + ZD_IDENTITY_BYTES + PAGE;
	agent.middle_stack = agent.stack + STACK_BYTES + PAGE;
	agent.ring = (void *)(agent.middle_stack + MIDDLE_BYTES + PAGE);
	staging = (char *)(((uintptr_t)agent.ring + RING_BYTES + PAGE + ZD_STAGING_BYTES - 1) &
			   ~(ZD_STAGING_BYTES - 1));
	madvise(base, RESERVE_BYTES, MADV_DONTDUMP);
	madvise(base, RESERVE_BYTES, MADV_NOHUGEPAGE);
	if (mprotect(identity, ZD_IDENTITY_BYTES, PROT_READ | PROT_WRITE) ||
	    mprotect(agent.stack, STACK_BYTES, PROT_READ | PROT_WRITE) ||
	    mprotect(agent.middle_stack, MIDDLE_BYTES, PROT_READ | PROT_WRITE) ||
	    mprotect(staging, ZD_STAGING_BYTES, PROT_READ | PROT_WRITE))
		return -errno;
	agent.hello.lo = (uintptr_t)base;
	agent.hello.hi = (uintptr_t)base + RESERVE_BYTES;
	agent.hello.identity = (uintptr_t)identity;
	agent.hello.staging = (uintptr_t)staging;
	agent.hello.words = (uintptr_t)&preload_words;
	return 0;
}

/* --no-children: what is exec'ed from here on never hears of zonedev. */
static void leave_children_alone(void)
{
	const char *old = getenv("ZONEDEV_OLD_PRELOAD");

	if (old)
		setenv("LD_PRELOAD", old, 1);
	else
		unsetenv("LD_PRELOAD");
	unsetenv("ZONEDEV_OLD_PRELOAD");
	unsetenv(ZD_AGENT_ENV);
	unsetenv(ZD_AGENT_ENV_ALONE);
}

static int read_environment(const char *env)
{
	const char *token, *ns;
	char *end;

	if (!zd_agent_env_parts(env, &token, &ns))
		return -EINVAL;
	memcpy(agent.name, env, token - 1 - env);
	memcpy(agent.hello.token, token, ZD_AGENT_TOKEN);
	agent.hello.pid_ns = strtoull(ns, &end, 10);
	return *end ? -EINVAL : 0;
}

/* The supervisor's id, which means nothing in another pid namespace, is in the name of
 * its socket. */
static bool is_child_of_supervisor(void)
{
	const char *id = strchr(agent.name, '-');
	struct stat ns;

	return id && strtol(id + 1, NULL, 10) == getppid() && !stat("/proc/self/ns/pid", &ns) &&
	       ns.st_ino == agent.hello.pid_ns;
}

/* Will what this program makes be in another pid namespace than the program?  Then
 * the first that it makes must be its own: all others in there die with the first. */
static bool makes_namespace(void)
{
	struct stat own, children;

	return !stat("/proc/self/ns/pid_for_children", &children) &&
	       !stat("/proc/self/ns/pid", &own) && own.st_ino != children.st_ino;
}

/* valgrind runs the program on a CPU of its own making, which knows no such clone(). */
static bool in_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload_");
}

__attribute__((constructor)) static void agent_init(void)
{
	const char *env = getenv(ZD_AGENT_ENV);

	if (!env || read_environment(env) || in_valgrind() || makes_namespace())
		return;
	agent.hello.magic = ZD_AGENT_MAGIC;
	agent.hello.version = ZD_AGENT_VERSION;
	if (getenv(ZD_AGENT_ENV_ALONE))
		leave_children_alone();
	if (lay_out())
		return;
	agent.parent = is_child_of_supervisor() ? CLONE_PARENT : 0;
	start(ZD_AGENT_FRESH);
	pthread_atfork(NULL, NULL, forked_child);
}

/*
 * When the program exits, the agent must not keep its memory any longer than the program
 * itself: the process that waits for the program would find its executable busy and its
 * shared mappings still there.  So the thread that exits bids farewell, by reading a page
 * that is missing: the supervisor sends the agent away, and answers when it is gone.
 */
__attribute__((destructor)) static void agent_leave(void)
{
	if (agent.hello.identity && !agent.thread)
		(void)*(volatile char *)(agent.hello.identity + ZD_FAREWELL);
}
