/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU reference counts.
 *
 * Mechanism.  The references are the sum of one atomic count and of the open
 * slots, one slot a CPU.  A slot's value says by its sign whether it is open:
 *
 *	open	SLOT_OPEN + d	(> 0)	d: gets minus puts done through it
 *	closed	SLOT_CLOSED + x	(< 0)	x: noise, never read
 *
 * Get and put add to the slot of their CPU and look at the result.  Open: it
 * counted, done.  Closed: what they added is noise, and they go to ref->count.
 * One atomic exchange with SLOT_CLOSED takes what the slot had counted and
 * closes it, so every operation is counted in exactly one place and a change
 * of mode needs no grace period.
 *
 * ref->count is 2 * references, + DEAD once killed: one word, so that a
 * tryget_live that has seen "not dead" in it can't succeed after the kill.
 * While any slot is open it also carries BIAS, so that no thread sees zero.
 *
 * Invariants:
 *  1. BIAS is in ref->count before the first slot opens, and leaves it, in the
 *     same addition that brings what the slots had counted, after the last has
 *     closed.  So zero is only seen when all the counts are in one word.
 *  2. The put that brings the count to zero in atomic mode calls release, and touches
 *     @ref no more; neither does any other put after its subtraction.
 *
 * Ordering.  Opening: the release exchange of a slot pairs with the acquire
 * addition of a get that finds it open; a put that follows that get, on
 * whatever CPU, then finds BIAS in ref->count.  Closing: the acquire half of
 * the exchange pairs with the release of the puts collected; the addition to
 * ref->count releases, and the last put acquires, so release() sees everything
 * that any holder did.
 *
 * Locks: ref->lock serialises changes of mode.  Nothing is taken or called under
 * it.
 */
#include <errno.h>
#include <string.h>

#include <zonedev/log.h>
#include <zonedev/percpu_ref.h>

#include "base/alloc.h"
#include "base/lock.h"
#include "base/percpu.h"
#include "pages/percpu_ref.h"

#define SLOT_OPEN	((int64_t)1 << 62)
#define SLOT_CLOSED	(-((int64_t)1 << 62))
#define DEAD		((int64_t)1)
#define ONE		((int64_t)2)
#define BIAS		((int64_t)1 << 62)

#define KNOWN_FLAGS \
	(ZD_PERCPU_REF_INIT_ATOMIC | ZD_PERCPU_REF_INIT_DEAD | ZD_PERCPU_REF_ALLOW_REINIT)
/* In ref->flags, under ref->lock. */
#define FORCE_ATOMIC	(1u << 30)	/* not to percpu mode, even when live */
#define PERCPU		(1u << 31)	/* the slots are open */

/* The references in a word without BIAS. */
static int64_t refs_of(int64_t count)
{
	return (count & ~DEAD) / ONE;
}

/* With ref->lock, or before any other thread knows @ref; the slots are closed. */
static void open_slots(struct zd_percpu_ref *ref)
{
	__atomic_add_fetch(&ref->count, BIAS, __ATOMIC_RELAXED);
	/* Release: a get or put that finds a slot open finds BIAS (invariant 1). */
	for (uint32_t i = 0; i <= ref->mask; i++)
		__atomic_exchange_n(&ref->slots[i].value, SLOT_OPEN, __ATOMIC_RELEASE);
	ref->flags |= PERCPU;
}

/* With ref->lock; the slots are open. */
static void close_slots(struct zd_percpu_ref *ref)
{
	int64_t sum = 0, count;

	for (uint32_t i = 0; i <= ref->mask; i++)
		sum += __atomic_exchange_n(&ref->slots[i].value, SLOT_CLOSED, __ATOMIC_ACQ_REL) -
		       SLOT_OPEN;
	ref->flags &= ~PERCPU;
	count = __atomic_add_fetch(&ref->count, sum * ONE - BIAS, __ATOMIC_ACQ_REL);
	if (count >= ONE)
		return;
	/* The initial reference, and one that stays for good: there may be holders. */
	zd_warn_once("percpu_ref %p: %lld references before the initial one was put: "
		     "it is never released",
		     (void *)ref, (long long)refs_of(count));
	__atomic_add_fetch(&ref->count, 2 * ONE - (count & ~DEAD), __ATOMIC_RELAXED);
}

/* Before any other thread knows @ref; may block, to allocate. */
int zd_percpu_ref_init(struct zd_percpu_ref *ref, zd_percpu_ref_func_t *release, unsigned int flags)
{
	if (!release || (flags & ~KNOWN_FLAGS)) {
		zd_warn_once("zd_percpu_ref_init: %s", release ? "unknown flags" : "no release");
		return -EINVAL;
	}
	memset(ref, 0, sizeof(*ref));
	ref->slots = zd_percpu_alloc(&ref->mask);
	if (!ref->slots)
		return -ENOMEM;
	ref->release = release;
	for (uint32_t i = 0; i <= ref->mask; i++)
		ref->slots[i].value = SLOT_CLOSED;
	if (flags & ZD_PERCPU_REF_INIT_ATOMIC)
		ref->flags |= FORCE_ATOMIC;
	ref->count = flags & ZD_PERCPU_REF_INIT_DEAD ? DEAD : ONE;
	if (!(flags & (ZD_PERCPU_REF_INIT_DEAD | ZD_PERCPU_REF_INIT_ATOMIC)))
		open_slots(ref);
	return 0;
}

/* In the child of a fork, by its only thread. */
void zd_percpu_ref_reset(struct zd_percpu_ref *ref)
{
	ref->lock = 0;
	ref->count = ONE;
	open_slots(ref);
}

/* By the last thread that knows @ref. */
void zd_percpu_ref_exit(struct zd_percpu_ref *ref)
{
	zd_free(ref->slots);
	ref->slots = NULL;
}

/* A get that found its slot closed.  Any context; the caller holds a reference. */
void __zd_percpu_ref_get_slow(struct zd_percpu_ref *ref, uint64_t nr)
{
	int64_t old = __atomic_fetch_add(&ref->count, (int64_t)nr * ONE, __ATOMIC_RELAXED);

	if (old >= ONE)
		return;
	zd_warn_once("percpu_ref %p: get with %lld references: refused", (void *)ref,
		     (long long)refs_of(old));
	__atomic_sub_fetch(&ref->count, (int64_t)nr * ONE, __ATOMIC_RELAXED);
}

/* A tryget that found its slot closed.  Any context. */
bool __zd_percpu_ref_tryget_slow(struct zd_percpu_ref *ref, uint64_t nr, bool live)
{
	int64_t c = __atomic_load_n(&ref->count, __ATOMIC_RELAXED);

	do {
		if (c < ONE || (live && (c & DEAD)))
			return false;
	} while (!__atomic_compare_exchange_n(&ref->count, &c, c + (int64_t)nr * ONE, true,
					      __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
	return true;
}

/* A put that found its slot closed.  Any context; calls release, in this thread. */
void __zd_percpu_ref_put_slow(struct zd_percpu_ref *ref, uint64_t nr)
{
	/* Read first: after the subtraction @ref may be gone. */
	zd_percpu_ref_func_t *release = ref->release;
	int64_t count = __atomic_sub_fetch(&ref->count, (int64_t)nr * ONE, __ATOMIC_ACQ_REL);

	if (count >= ONE)
		return;
	if (count >= 0) {
		release(ref);
		return;
	}
	zd_warn_once("percpu_ref %p: put below zero, %lld references: ignored", (void *)ref,
		     (long long)refs_of(count));
	__atomic_add_fetch(&ref->count, (int64_t)nr * ONE, __ATOMIC_RELAXED);
}

/* Any thread, not a signal handler; waits for ref->lock.  @confirm and release are called
 * without it. */
void zd_percpu_ref_kill_and_confirm(struct zd_percpu_ref *ref, zd_percpu_ref_func_t *confirm)
{
	int64_t old;

	zd_lock_word(&ref->lock);
	old = __atomic_fetch_or(&ref->count, DEAD, __ATOMIC_ACQ_REL);
	if (!(old & DEAD) && ref->flags & PERCPU)
		close_slots(ref);
	zd_unlock_word(&ref->lock);
	if (old & DEAD) {
		zd_warn_once("percpu_ref %p: killed twice", (void *)ref);
		return;
	}
	if (confirm)
		confirm(ref);
	__zd_percpu_ref_put_slow(ref, 1);
}

void zd_percpu_ref_kill(struct zd_percpu_ref *ref)
{
	zd_percpu_ref_kill_and_confirm(ref, NULL);
}

/* Any thread, not a signal handler; waits for ref->lock.  The caller keeps the count from
 * reaching zero meanwhile. */
void zd_percpu_ref_resurrect(struct zd_percpu_ref *ref)
{
	bool dead;

	zd_lock_word(&ref->lock);
	dead = zd_percpu_ref_is_dying(ref);
	if (dead) {
		__atomic_fetch_add(&ref->count, ONE - DEAD, __ATOMIC_ACQ_REL);
		if (!(ref->flags & FORCE_ATOMIC))
			open_slots(ref);
	}
	zd_unlock_word(&ref->lock);
	if (!dead)
		zd_warn_once("percpu_ref %p: not killed: it can't be resurrected", (void *)ref);
}

void zd_percpu_ref_reinit(struct zd_percpu_ref *ref)
{
	if (!zd_percpu_ref_is_zero(ref))
		zd_warn_once("percpu_ref %p: reinit with %lld references", (void *)ref,
			     (long long)zd_percpu_ref_read(ref));
	zd_percpu_ref_resurrect(ref);
}

/* Any thread, not a signal handler; waits for ref->lock. */
void zd_percpu_ref_switch_to_atomic(struct zd_percpu_ref *ref, zd_percpu_ref_func_t *confirm)
{
	zd_lock_word(&ref->lock);
	ref->flags |= FORCE_ATOMIC;
	if (ref->flags & PERCPU)
		close_slots(ref);
	zd_unlock_word(&ref->lock);
	if (confirm)
		confirm(ref);
}

void zd_percpu_ref_switch_to_atomic_sync(struct zd_percpu_ref *ref)
{
	zd_percpu_ref_switch_to_atomic(ref, NULL);
}

/* Any thread, not a signal handler; waits for ref->lock. */
void zd_percpu_ref_switch_to_percpu(struct zd_percpu_ref *ref)
{
	zd_lock_word(&ref->lock);
	ref->flags &= ~FORCE_ATOMIC;
	if (!(ref->flags & PERCPU) && !zd_percpu_ref_is_dying(ref))
		open_slots(ref);
	zd_unlock_word(&ref->lock);
}

bool zd_percpu_ref_is_zero(const struct zd_percpu_ref *ref)
{
	return __atomic_load_n(&ref->count, __ATOMIC_ACQUIRE) < ONE;
}

bool zd_percpu_ref_is_dying(const struct zd_percpu_ref *ref)
{
	return __atomic_load_n(&ref->count, __ATOMIC_ACQUIRE) & DEAD;
}

/* Any context. */
int64_t zd_percpu_ref_read(const struct zd_percpu_ref *ref)
{
	int64_t count = __atomic_load_n(&ref->count, __ATOMIC_ACQUIRE), sum = 0;

	/* Counts stay well below BIAS / 2: above that it is in percpu mode. */
	if (count < BIAS / 2)
		return refs_of(count);
	for (uint32_t i = 0; i <= ref->mask; i++) {
		int64_t v = __atomic_load_n(&ref->slots[i].value, __ATOMIC_RELAXED);

		if (v >= 0)
			sum += v - SLOT_OPEN;
	}
	return refs_of(count - BIAS) + sum;
}
