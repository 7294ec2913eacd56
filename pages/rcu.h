/* SPDX-License-Identifier: MIT */
/*
 * Read-copy-update, as lookups of pagemaps need it: short sections, any thread, any
 * number of them, also in a signal handler; grace periods one at a time.
 *
 * Not liburcu: its read side is cheaper, but a thread's first section and each grace
 * period take liburcu's locks.  Before a fork these would have to be held, and the server of
 * the process, whose reading of an event fork() waits for, takes them, too; and in the
 * child they can't be freed.
 */
#ifndef ZD_PAGES_RCU_H
#define ZD_PAGES_RCU_H

#include <stdint.h>

/* Begin and end a section; neither blocks.  zd_rcu_read_lock() returns what its
 * zd_rcu_read_unlock() must be given. */
unsigned int zd_rcu_read_lock(void);
void zd_rcu_read_unlock(unsigned int section);

/* Before anything is published: 0, or -ENOMEM.  A second call does nothing.  With map_lock. */
int zd_rcu_init(void);
/* Wait for all sections that have begun.  Not in a section; by one thread at a time: the one
 * that has pagemap.c's map_lock. */
void zd_synchronize_rcu(void);

/* Pointers: publish with release, read with acquire (consume, in practice). */
#define zd_rcu_assign(p, v)	__atomic_store_n(&(p), (v), __ATOMIC_RELEASE)
#define zd_rcu_dereference(p)	__atomic_load_n(&(p), __ATOMIC_ACQUIRE)

#endif
