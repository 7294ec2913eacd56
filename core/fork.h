/* SPDX-License-Identifier: MIT */
/*
 * What a fork means for zonedev's own state.  The rule for whoever adds a lock or a
 * thread-local word is told in docs/fork.md.
 */
#ifndef CORE_FORK_H
#define CORE_FORK_H

#include <stdint.h>

/*
 * Which process of a line of forks this is: a multiple of 4, another in a child than in
 * its parent.  Locks carry it (lock.h), and so does what is remembered of a thread or a
 * process.  Written once, by the child's only thread, before fork() returns in it.
 */
extern uint32_t zd_fork_generation;

#endif
