/* SPDX-License-Identifier: MIT */
/*
 * RCU as all of zonedev uses it: liburcu's bp flavour, which needs no thread
 * registration by the caller, through its functions (the inline forms are
 * LGPL).
 *
 * ThreadSanitizer doesn't see that a grace period orders things (liburcu isn't
 * instrumented, and sys_membarrier is beyond it), so in such builds the end of
 * a read-side section releases, and the end of a grace period acquires, one
 * global word.  It tells the sanitizer nothing but what RCU promises.
 */
#ifndef CORE_RCU_H
#define CORE_RCU_H

#include <urcu/urcu-bp.h>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
extern char zd_rcu_tsan;
#define zd_rcu_note_unlock()	__tsan_release(&zd_rcu_tsan)
#define zd_rcu_note_synced()	__tsan_acquire(&zd_rcu_tsan)
#else
#define zd_rcu_note_unlock()	((void)0)
#define zd_rcu_note_synced()	((void)0)
#endif

static inline void zd_rcu_read_lock(void)
{
	urcu_bp_read_lock();
}

static inline void zd_rcu_read_unlock(void)
{
	zd_rcu_note_unlock();
	urcu_bp_read_unlock();
}

/* Blocks.  Not in a read-side section, nor with a lock that one may wait for. */
static inline void zd_synchronize_rcu(void)
{
	urcu_bp_synchronize_rcu();
	zd_rcu_note_synced();
}

/* Pointers: publish with release, read with acquire (consume, in practice). */
#define zd_rcu_assign(p, v)	__atomic_store_n(&(p), (v), __ATOMIC_RELEASE)
#define zd_rcu_dereference(p)	__atomic_load_n(&(p), __ATOMIC_ACQUIRE)

#endif
