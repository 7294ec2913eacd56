/* SPDX-License-Identifier: MIT */
/*
 * When the program begins, forks and ends.
 *
 * Context: the program's own thread: constructors, the fork handler in the child, and
 * destructors.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "run/agent/agent.h"
#include "run/agent/preload.h"

static void start(int kind)
{
	agent.kind = kind;
	agent.owner = own_tid();	/* this is the only thread: so that is the process's id */
	agent_birth();
}

static void forked_child(void)
{
	agent.parent = 0;
	start(ZD_AGENT_FORK);
}

/* --no-children: programs that are exec'ed from here on run as if zonedev weren't there. */
static void leave_children_alone(void)
{
	static const char old[] = ZD_AGENT_ENV_OLD "=";
	size_t n = 0;

	for (char **e = environ; *e; e++) {
		if (text_begins(*e, old))	/* without ZONEDEV_OLD_ it is LD_PRELOAD=... */
			environ[n++] = *e + sizeof("ZONEDEV_OLD_") - 1;
		else if (!text_begins(*e, "LD_PRELOAD=") && !env_is_ours(*e))
			environ[n++] = *e;
	}
	environ[n] = NULL;
}

/* A decimal number in *@n, up to the end of @s or a dash.  False: something else follows. */
static bool number(const char *s, uint64_t *n)
{
	*n = 0;
	for (; *s >= '0' && *s <= '9'; s++)
		*n = *n * 10 + (*s - '0');
	return !*s || *s == '-';
}

static int read_environment(const char *env)
{
	const char *token, *ns;

	if (!zd_agent_env_parts(env, &token, &ns))
		return -EINVAL;
	text_copy(agent.name, env, token - 1 - env);
	text_copy(agent.hello.token, token, ZD_AGENT_TOKEN);
	return number(ns, &agent.hello.pid_ns) ? 0 : -EINVAL;
}

static long look_at(const char *path, struct stat *st)
{
	return raw_syscall(SYS_stat, (long)path, (long)st, 0, 0, 0, 0);
}

/* The supervisor's pid is in the name of its socket; it means nothing in another pid
 * namespace. */
static bool is_child_of_supervisor(void)
{
	const char *id = text_find(agent.name, "-");
	uint64_t pid;
	struct stat ns;

	return id && number(id + 1, &pid) &&
	       (long)pid == raw_syscall(SYS_getppid, 0, 0, 0, 0, 0, 0) &&
	       !look_at("/proc/self/ns/pid", &ns) && ns.st_ino == agent.hello.pid_ns;
}

/* Will this program's children be in another pid namespace than the program?  Then the first
 * of them must be the program's own child, not the agent: when the first process of a
 * namespace ends, all others in it are killed. */
static bool makes_namespace(void)
{
	struct stat own, children;

	return !look_at("/proc/self/ns/pid_for_children", &children) &&
	       !look_at("/proc/self/ns/pid", &own) && own.st_ino != children.st_ino;
}

/* valgrind runs the program on a simulated CPU, which knows no such clone(). */
static bool in_valgrind(void)
{
	const char *list = env_value(environ, "LD_PRELOAD");

	return list && text_find(list, "vgpreload_");
}

__attribute__((constructor)) static void agent_init(void)
{
	const char *env = env_value(environ, ZD_AGENT_ENV);

	if (!env || read_environment(env) || in_valgrind() || makes_namespace())
		return;
	agent.hello.magic = ZD_AGENT_MAGIC;
	agent.hello.version = ZD_AGENT_VERSION;
	if (env_value(environ, ZD_AGENT_ENV_NO_CHILDREN))
		leave_children_alone();
	if (agent_lay_out((uintptr_t)&clone_clear_tids))
		return;
	agent.parent = is_child_of_supervisor() ? CLONE_PARENT : 0;
	start(ZD_AGENT_FRESH);
	pthread_atfork(NULL, NULL, forked_child);
}

/*
 * When the program exits, the agent must not hold the address space any longer than the
 * program itself: the process that waits for the program would find its executable busy and
 * its shared mappings still there.  So the thread that exits bids farewell, by reading a page
 * that is missing: the supervisor sends the agent away, and answers the fault when the agent
 * is gone.
 */
__attribute__((destructor)) static void agent_leave(void)
{
	if (agent.hello.identity && !agent.thread)
		(void)*(volatile char *)(agent.hello.identity + ZD_FAREWELL);
}
