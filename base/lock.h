/* SPDX-License-Identifier: MIT */
/*
 * Locks that never allocate: one 32-bit word each, all zero = unlocked, so that
 * public structs can hold them as a plain uint32_t.
 *
 * struct zd_mutex: 0 free, or the generation of the process that holds it (fork.h) with
 * HELD or WAITED_FOR below.  Not recursive, not fair.  lock is acquire, unlock is release.
 * A lock that another thread held when this process was forked is free: its holder isn't
 * here.  The next holder is told so, since what the lock guards may be half changed; see
 * docs/fork.md.
 *
 * struct zd_completion: an event that stays.  zd_complete() is release, a wait
 * that sees it is acquire.  Before that the waiter may be nudged, to look after
 * something else: the word counts nudges in twos, and is odd at the end.
 */
#ifndef ZD_BASE_LOCK_H
#define ZD_BASE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fork.h"

struct zd_mutex {
	uint32_t word;
};

#define ZD_LOCK_HELD		1u
#define ZD_LOCK_WAITED_FOR	2u	/* held, and a thread may be waiting */
#define ZD_LOCK_STATE		3u

/* In a loop that waits for another CPU. */
static inline void zd_cpu_relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

/* For tests: how many locks this process has taken from threads that a fork had lost. */
extern uint64_t zd_locks_lost;

bool __zd_mutex_lock_slow(uint32_t *word);
void __zd_mutex_wake(uint32_t *word);

static inline bool zd_trylock_word(uint32_t *word)
{
	uint32_t free = 0;

	return __atomic_compare_exchange_n(word, &free, zd_fork_generation | ZD_LOCK_HELD, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) ||
	       (__builtin_expect((free & ~ZD_LOCK_STATE) != zd_fork_generation, 0) &&
		__atomic_compare_exchange_n(word, &free, zd_fork_generation | ZD_LOCK_HELD, false,
					    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
}

/* Take the lock; may block.  True: the lock's holder was lost in a fork. */
static inline bool zd_lock_word(uint32_t *word)
{
	uint32_t free = 0;

	if (__atomic_compare_exchange_n(word, &free, zd_fork_generation | ZD_LOCK_HELD, false,
					__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return false;
	return __zd_mutex_lock_slow(word);
}

static inline void zd_unlock_word(uint32_t *word)
{
	if (__atomic_exchange_n(word, 0, __ATOMIC_RELEASE) & ZD_LOCK_WAITED_FOR)
		__zd_mutex_wake(word);
}

static inline bool zd_mutex_lock(struct zd_mutex *m)
{
	return zd_lock_word(&m->word);
}
static inline bool zd_mutex_trylock(struct zd_mutex *m)
{
	return zd_trylock_word(&m->word);
}
static inline void zd_mutex_unlock(struct zd_mutex *m)
{
	zd_unlock_word(&m->word);
}

/* Does a thread of this process hold @m now? */
static inline bool zd_mutex_is_locked(const struct zd_mutex *m)
{
	uint32_t word = __atomic_load_n(&m->word, __ATOMIC_ACQUIRE);

	return word && (word & ~ZD_LOCK_STATE) == zd_fork_generation;
}

struct zd_completion {
	uint32_t word;
};

#define ZD_COMPLETION_DONE	1u

static inline void zd_completion_init(struct zd_completion *c)
{
	__atomic_store_n(&c->word, 0, __ATOMIC_RELAXED);
}

static inline bool zd_completion_done(const struct zd_completion *c)
{
	return __atomic_load_n(&c->word, __ATOMIC_ACQUIRE) & ZD_COMPLETION_DONE;
}

/* zd_complete - wake all waiters, now and to come.  A waiter may free @c at once: the
 * wake-up after the store goes by address only. */
void zd_complete(struct zd_completion *c);
void zd_wait_for_completion(struct zd_completion *c);
/* zd_nudge - end a zd_wait_for_nudge(); before zd_complete(), and by the same thread, since
 * the waiter may free @c after that. */
void zd_nudge(struct zd_completion *c);
/* zd_wait_for_nudge - until @c is done, or there were nudges that *@seen (0 at first)
 * doesn't count. */
void zd_wait_for_nudge(struct zd_completion *c, uint32_t *seen);
/* zd_wait_for_completion_timeout - false: @c was not done after @ms milliseconds. */
bool zd_wait_for_completion_timeout(struct zd_completion *c, unsigned int ms);

/* futex(2) on a private word; -errno.  @ms < 0: no timeout. */
int zd_futex_wait(uint32_t *word, uint32_t val, int64_t ms);
int zd_futex_wake(uint32_t *word, int nr);

#endif
