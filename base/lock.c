/* SPDX-License-Identifier: MIT */
/*
 * Mutexes and completions on futex(2).
 *
 * Mutex word: 0 free, else the holder's generation and HELD or WAITED_FOR.  A waiter
 * sets WAITED_FOR before it sleeps and takes the lock as WAITED_FOR, since it can't know
 * whether other waiters sleep; so an unlock that finds HELD needs no system call.  The exchange to
 * 0 in zd_unlock_word() is the release that the acquiring exchanges here and in
 * zd_lock_word() pair with.
 *
 * A word of another generation was copied by a fork from a process in which a thread held
 * the lock.  That thread isn't in this process, and neither is any waiter: the word is as
 * good as 0.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/time.h"

int zd_futex_wait(uint32_t *word, uint32_t val, int64_t ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	int saved = errno, err = 0;

	if (syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, val, ms < 0 ? NULL : &ts, NULL, 0))
		err = -errno;
	errno = saved;
	return err;
}

int zd_futex_wake(uint32_t *word, int nr)
{
	int saved = errno;
	long n = syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, nr, NULL, NULL, 0);

	if (n < 0)
		n = -errno;
	errno = saved;
	return (int)n;
}

uint64_t zd_locks_lost;

static bool is_lost(uint32_t word)
{
	return word && (word & ~ZD_LOCK_STATE) != zd_fork_generation;
}

bool __zd_mutex_lock_slow(uint32_t *word)
{
	const uint32_t waited_for = zd_fork_generation | ZD_LOCK_WAITED_FOR;
	uint32_t old;

	/* The holder is most often about to unlock. */
	for (int i = 0; i < 100; i++) {
		old = __atomic_load_n(word, __ATOMIC_RELAXED);
		if (is_lost(old))
			break;
		if (old == 0 && zd_trylock_word(word))
			return false;
		zd_cpu_relax();
	}
	for (;;) {
		old = __atomic_exchange_n(word, waited_for, __ATOMIC_ACQUIRE);
		if (is_lost(old))
			__atomic_add_fetch(&zd_locks_lost, 1, __ATOMIC_RELAXED);
		if (old == 0 || is_lost(old))
			return old;
		zd_futex_wait(word, waited_for, -1);
	}
}

void __zd_mutex_wake(uint32_t *word)
{
	zd_futex_wake(word, 1);
}

void zd_complete(struct zd_completion *c)
{
	__atomic_fetch_or(&c->word, ZD_COMPLETION_DONE, __ATOMIC_RELEASE);
	zd_futex_wake(&c->word, INT_MAX);
}

void zd_wait_for_completion(struct zd_completion *c)
{
	uint32_t seen = 0;

	while (!zd_completion_done(c))
		zd_wait_for_nudge(c, &seen);
}

void zd_nudge(struct zd_completion *c)
{
	__atomic_fetch_add(&c->word, 2, __ATOMIC_RELEASE);
	zd_futex_wake(&c->word, INT_MAX);
}

void zd_wait_for_nudge(struct zd_completion *c, uint32_t *seen)
{
	uint32_t word;

	while ((word = __atomic_load_n(&c->word, __ATOMIC_ACQUIRE)) == *seen)
		zd_futex_wait(&c->word, word, -1);
	*seen = word;
}

bool zd_wait_for_completion_timeout(struct zd_completion *c, unsigned int ms)
{
	int64_t end = zd_now_ms() + ms;

	while (!zd_completion_done(c)) {
		uint32_t word = __atomic_load_n(&c->word, __ATOMIC_RELAXED);
		int64_t left = end - zd_now_ms();

		if (left <= 0)
			return false;
		if (!(word & ZD_COMPLETION_DONE))
			zd_futex_wait(&c->word, word, left);
	}
	return true;
}
