/* SPDX-License-Identifier: MIT */
/*
 * What a fork means for zonedev's own state.  The rule for a new lock, and for a new
 * thread-local word, is told in docs/fork.md.
 */
#ifndef ZD_BASE_FORK_H
#define ZD_BASE_FORK_H

#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

/*
 * Which process of a line of forks this is: a multiple of 4, another in a child than in
 * its parent.  Locks carry it (lock.h), and so does what is remembered of a thread or a
 * process.  Written once, by the child's only thread, before fork() returns in the child.
 */
extern uint32_t zd_fork_generation;

/* A process, as the owner of what it has opened.  The pid alone may be a child's, too, in
 * another pid namespace; and a child of _Fork() has the generation of its parent. */
struct zd_process {
	uint32_t generation;
	pid_t pid;
};

static inline struct zd_process zd_this_process(void)
{
	return (struct zd_process){ zd_fork_generation, getpid() };
}

static inline bool zd_is_this_process(const struct zd_process *p)
{
	return p->generation == zd_fork_generation && p->pid == getpid();
}

/*
 * What a file of another room has to do in the child of a fork: @child is called there, by
 * the child's only thread, before fork() returns.  It must not allocate, wait or fail: other
 * threads of the parent may have been anywhere.
 */
struct zd_fork_handler {
	void (*child)(void);
	struct zd_fork_handler *next;
};

/*
 * zd_fork_register - have @handler called in this process's children and their children.  A
 * second call for the same handler does nothing.  @handler is static, and stays.
 *
 * Register before the state exists that @handler mends.  Then a fork at any moment has a
 * child that is right: where the handler is missing there is no state yet, and the child
 * registers the handler itself when it makes the state.
 * Any thread; the same handler by one thread at a time.
 */
void zd_fork_register(struct zd_fork_handler *handler);

#endif
