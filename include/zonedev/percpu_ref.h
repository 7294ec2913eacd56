/* SPDX-License-Identifier: MIT */
/*
 * zonedev/percpu_ref.h - a reference count that scales: the kernel's
 * percpu_ref in user space.
 *
 * In percpu mode a get or put is one atomic operation on a cache line of the
 * CPU that it runs on, and zero is not noticed.  zd_percpu_ref_kill() folds the
 * per-CPU counts into one atomic count and drops the initial reference; from
 * then on the count that reaches zero calls the release function, once.
 *
 * The contract is the kernel's, with these differences:
 *  - Nothing here waits.  The kernel's switch between the modes needs an RCU
 *    grace period; here a slot is collected and closed by one atomic exchange,
 *    and a get or put that finds its slot closed goes to the atomic count.  So
 *    zd_percpu_ref_kill() doesn't block, and when it returns every
 *    zd_percpu_ref_tryget_live() fails: the confirm callback is called before
 *    zd_percpu_ref_kill_and_confirm() returns, in the same thread, and
 *    zd_percpu_ref_switch_to_atomic() is already the synchronous form.
 *  - As in the kernel a kill implies no grace period for what the reference
 *    protects: a lookup that may race with the last put must be covered by
 *    the caller's own RCU, and zd_percpu_ref_exit() must come after it.
 *  - ZD_PERCPU_REF_ALLOW_REINIT is accepted and not needed.
 *  - As in the kernel, a program that counts wrong is warned (once) and nothing is freed:
 *    a put below zero, a get with no reference left, a second kill, and a resurrect
 *    without a kill are ignored; where more was put than got when the per-CPU counts are
 *    summed up, release is never called.
 *
 * The release function runs in the thread that put the last reference, or that
 * killed.  The function must not block; it may free the reference.
 *
 * Fork.  A child must not use a reference whose mode another thread was changing at the fork
 * (kill, reinit, resurrect, switch_to_*): what that thread had summed up is lost.
 */
#ifndef ZONEDEV_PERCPU_REF_H
#define ZONEDEV_PERCPU_REF_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__has_include)
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#define ZD_HAVE_RSEQ 1
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define ZD_PERCPU_REF_INIT_ATOMIC	(1u << 0)	/* stay atomic until switch_to_percpu */
#define ZD_PERCPU_REF_INIT_DEAD		(1u << 1)	/* as if killed, count 0 */
#define ZD_PERCPU_REF_ALLOW_REINIT	(1u << 2)

struct zd_percpu_ref;
typedef void (zd_percpu_ref_func_t)(struct zd_percpu_ref *ref);

struct zd_percpu_slot {
	int64_t value;
} __attribute__((aligned(64)));

/* All members are zonedev's.  Both sizes are fixed for ever: the inline functions know
 * them. */
struct zd_percpu_ref {
	struct zd_percpu_slot *slots;	/* a power of two of them */
	uint32_t mask;
	uint32_t lock;			/* of mode changes */
	uint32_t flags;
	int64_t count;			/* 2 * references + dead bit */
	zd_percpu_ref_func_t *release;
};

/*
 * zd_percpu_ref_init - percpu mode (but see @flags), one reference: the
 * initial one, which kill drops.  Ended by zd_percpu_ref_exit().
 * Returns 0; -EINVAL: no @release, unknown @flags; -ENOMEM.
 * Context: may block (it allocates), fork-safe.
 */
int zd_percpu_ref_init(struct zd_percpu_ref *ref, zd_percpu_ref_func_t *release,
		       unsigned int flags);

/* zd_percpu_ref_exit - free what init allocated, when no thread uses @ref any more.
 * Twice, or after a failed init of a zeroed struct, is fine.
 * Context: may block, fork-safe. */
void zd_percpu_ref_exit(struct zd_percpu_ref *ref);

/*
 * zd_percpu_ref_kill - close the per-CPU counts, fail every tryget_live from
 * now on, and drop the initial reference.  Once: a second kill without reinit
 * or resurrect between does nothing.  May call release.
 * Context of this and the next five: any thread, fork-safe.
 */
void zd_percpu_ref_kill(struct zd_percpu_ref *ref);

/* The same; @confirm (if not NULL) is called before the initial reference is
 * dropped: no tryget_live will succeed. */
void zd_percpu_ref_kill_and_confirm(struct zd_percpu_ref *ref, zd_percpu_ref_func_t *confirm);

/* zd_percpu_ref_reinit - from killed and zero to live with one reference. */
void zd_percpu_ref_reinit(struct zd_percpu_ref *ref);

/* zd_percpu_ref_resurrect - from killed to live again, with a new initial
 * reference; the caller makes sure that the count can't reach zero meanwhile. */
void zd_percpu_ref_resurrect(struct zd_percpu_ref *ref);

/* Modes of a live reference.  switch_to_percpu on a dead one takes effect when
 * it is reinit'ed.  @confirm may be NULL; it is called before the return. */
void zd_percpu_ref_switch_to_atomic(struct zd_percpu_ref *ref, zd_percpu_ref_func_t *confirm);
void zd_percpu_ref_switch_to_atomic_sync(struct zd_percpu_ref *ref);
void zd_percpu_ref_switch_to_percpu(struct zd_percpu_ref *ref);

/* zd_percpu_ref_is_zero - true if in atomic mode and no references are left;
 * always false in percpu mode.
 * Context of this and the next two: signal-safe, fork-safe. */
bool zd_percpu_ref_is_zero(const struct zd_percpu_ref *ref);

/* zd_percpu_ref_is_dying - killed. */
bool zd_percpu_ref_is_dying(const struct zd_percpu_ref *ref);

/* zd_percpu_ref_read - the references now: exact in atomic mode, else a sum
 * taken slot by slot while others work.  For reports. */
int64_t zd_percpu_ref_read(const struct zd_percpu_ref *ref);

/* Out of line parts of the functions below; never call them. */
uint32_t __zd_getcpu_slow(void);
void __zd_percpu_ref_get_slow(struct zd_percpu_ref *ref, uint64_t nr);
bool __zd_percpu_ref_tryget_slow(struct zd_percpu_ref *ref, uint64_t nr, bool live);
void __zd_percpu_ref_put_slow(struct zd_percpu_ref *ref, uint64_t nr);

/*
 * The CPU that this thread runs on, or ran on a moment ago: good enough for
 * choosing a cache line, not for leaving out atomics.  Mask it: where rseq isn't
 * registered glibc leaves a negative number there, and every thread gets the
 * same slot, which is slower but as correct.
 */
static inline uint32_t __zd_getcpu(void)
{
#if defined(ZD_HAVE_RSEQ) && defined(__x86_64__)
	char *tp;

	__asm__("mov %%fs:0, %0" : "=r"(tp));
	return *(volatile uint32_t *)(tp + __rseq_offset + offsetof(struct rseq, cpu_id));
#else
	return __zd_getcpu_slow();
#endif
}

static inline int64_t *__zd_percpu_ref_slot(struct zd_percpu_ref *ref)
{
	return &ref->slots[__zd_getcpu() & ref->mask].value;
}

/*
 * zd_percpu_ref_get_many - @nr more references, by a holder of one.
 * Context: signal-safe, fork-safe; so are the others below.
 *
 * An open slot's value is far above zero, a closed one's far below: the sign of
 * the result says whether the addition counted.  Acquire, in case the slot was
 * opened just now: the bias in ref->count comes first (pages/percpu_ref.c).
 */
static inline void zd_percpu_ref_get_many(struct zd_percpu_ref *ref, uint64_t nr)
{
	if (__builtin_expect(__atomic_add_fetch(__zd_percpu_ref_slot(ref), (int64_t)nr,
						__ATOMIC_ACQUIRE) < 0,
			     0))
		__zd_percpu_ref_get_slow(ref, nr);
}

static inline void zd_percpu_ref_get(struct zd_percpu_ref *ref)
{
	zd_percpu_ref_get_many(ref, 1);
}

/* zd_percpu_ref_tryget_many - @nr references unless the count is zero. */
static inline bool zd_percpu_ref_tryget_many(struct zd_percpu_ref *ref, uint64_t nr)
{
	if (__builtin_expect(__atomic_add_fetch(__zd_percpu_ref_slot(ref), (int64_t)nr,
						__ATOMIC_ACQUIRE) >= 0,
			     1))
		return true;
	return __zd_percpu_ref_tryget_slow(ref, nr, false);
}

static inline bool zd_percpu_ref_tryget(struct zd_percpu_ref *ref)
{
	return zd_percpu_ref_tryget_many(ref, 1);
}

/* zd_percpu_ref_tryget_live - a reference unless the count is zero or the
 * reference was killed. */
static inline bool zd_percpu_ref_tryget_live(struct zd_percpu_ref *ref)
{
	if (__builtin_expect(__atomic_add_fetch(__zd_percpu_ref_slot(ref), 1, __ATOMIC_ACQUIRE) >=
				     0,
			     1))
		return true;
	return __zd_percpu_ref_tryget_slow(ref, 1, true);
}

/* zd_percpu_ref_put_many - drop @nr references; the last one calls release.
 * Context: signal-safe, fork-safe, if release is. */
static inline void zd_percpu_ref_put_many(struct zd_percpu_ref *ref, uint64_t nr)
{
	/* Release: pairs with the exchange that collects the slot. */
	if (__builtin_expect(__atomic_sub_fetch(__zd_percpu_ref_slot(ref), (int64_t)nr,
						__ATOMIC_ACQ_REL) < 0,
			     0))
		__zd_percpu_ref_put_slow(ref, nr);
}

static inline void zd_percpu_ref_put(struct zd_percpu_ref *ref)
{
	zd_percpu_ref_put_many(ref, 1);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
