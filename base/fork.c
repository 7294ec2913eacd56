/* SPDX-License-Identifier: MIT */
/*
 * Fork: all that zonedev does about it, in one handler.
 *
 * Mechanism.  A fork copies the memory at one instant, and of the threads only the one that
 * called.  What other threads had begun stays half done in the child, for good.
 * zonedev takes no lock before a fork: fork() waits until the process's server has read its
 * userfaultfd event, and the server may be waiting for just that lock.  Instead
 *
 *	locks	belong to a generation (base/lock.h); one that is held by another
 *		generation's thread is free
 *	data	under each lock is such that the next holder can start from its state after
 *		any store of a writer; or the next holder is told that it took the lock
 *		from a lost thread, and finishes or undoes what that thread had begun
 *
 * so that the child has little to do at once: a new generation, and what other files have
 * registered (zd_fork_register()), none of which can fail or wait.
 *
 * The handler runs before those of libraries that were loaded later, and before the child's
 * main program.  vfork(), and clone() with CLONE_VM, share the memory: there is nothing to
 * do.  A bare clone() or _Fork() runs no handlers: its child may call nothing that takes a
 * lock, as it may not call malloc().
 */
#include <pthread.h>

#include "base/fork.h"

/* In this file, so that a program that takes a lock has the handler below linked in. */
uint32_t zd_fork_generation = 4;

static struct zd_fork_handler *handlers;	/* only ever added to, in front */

void zd_fork_register(struct zd_fork_handler *handler)
{
	struct zd_fork_handler *first = __atomic_load_n(&handlers, __ATOMIC_ACQUIRE);

	for (struct zd_fork_handler *h = first; h; h = h->next)
		if (h == handler)
			return;
	/* Release: a child's memory that has the handler in the list has its @next. */
	do {
		handler->next = first;
	} while (!__atomic_compare_exchange_n(&handlers, &first, handler, false, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
}

static void after_fork_child(void)
{
	zd_fork_generation += 4;
	if (!zd_fork_generation)	/* 0 is a free lock's */
		zd_fork_generation = 4;
	for (struct zd_fork_handler *h = handlers; h; h = h->next)
		h->child();
}

/* In a constructor and not at first use: pthread_atfork() calls malloc(). */
__attribute__((constructor)) static void fork_init(void)
{
	pthread_atfork(NULL, NULL, after_fork_child);
}
