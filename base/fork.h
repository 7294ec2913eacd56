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
 * its parent.  Locks carry it (drivers/file_lock.h), and so does what is remembered of a thread or a
 * process.  Written once, by the child's only thread, before fork() returns in it.
 */
extern uint32_t zd_fork_generation;

/* The process that opened something: its number alone may be a child's, too, in another
 * pid namespace; and a child of _Fork() has the generation of its parent. */
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
 * zd_fork_register - have @handler called, in this process's children and theirs.  Once is
 * enough; again, it does nothing.  @handler is static, and stays.
 *
 * Call it before the state that @handler is about exists.  So a fork at any moment has a
 * child that is right: without the handler there is no state yet, and the child registers
 * for itself when it comes to that.
 * Any thread; of several that register the same handler, one at a time.
 */
void zd_fork_register(struct zd_fork_handler *handler);

#endif
