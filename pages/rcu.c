/* SPDX-License-Identifier: MIT */
/*
 * Mechanism.  Two per-CPU references.  A section holds one of them: the one that @current
 * names, or, where that has just been killed, the other.  A grace period kills each in
 * turn, waits until its last holder has put it, and opens it again:
 *
 *	current = 1;  kill 0;  wait;  reinit 0
 *	current = 0;  kill 1;  wait;  reinit 1
 *
 * Both, because a section may have read @current long ago: it is in one or the other.  At
 * most one is dead at any time, so a section that finds one dead finds the other alive, or
 * the grace period has gone on meanwhile.
 *
 * Ordering.  What was published before zd_synchronize_rcu() is seen by every section that
 * it doesn't wait for.  Such a section took its reference after the kill of the first or
 * of the second: if from the same one, the exchange that closed the slots, or the bit in
 * its count, comes before the reopening that the section's addition read from; if from the
 * other, after a failed try of the dead one, that try read what the kill wrote.  Each is
 * an acquire that pairs with a release in percpu_ref.c, but for the failed try: hence the
 * fence in zd_rcu_read_lock(), whose partner is the full exchange in the kill.
 *
 * A section is two atomic operations on a line of its CPU.  Memory: one line a CPU and
 * reference, for ever.
 */
#include <stdbool.h>

#include <zonedev/percpu_ref.h>

#include "base/fork.h"
#include "base/lock.h"
#include "pages/percpu_ref.h"
#include "pages/rcu.h"

/*
 * Two pairs of sides: a process uses the one, its children the other.  So a section in
 * which a signal handler forked ends, in the child, on the side that it began on, which
 * the child doesn't use.
 */
static struct side {
	struct zd_percpu_ref ref;
	struct zd_completion idle;
} side[4];

/* The first side of this process's pair. */
static unsigned int pair(void)
{
	return zd_fork_generation / 4 % 2 * 2;
}

static unsigned int current;
static bool ready;

static void last_put(struct zd_percpu_ref *ref)
{
	zd_complete(&((struct side *)ref)->idle);
}

/* The child's own sections begin on its own pair of sides. */
static void after_fork_child(void)
{
	for (unsigned int i = pair(); i < pair() + 2 && ready; i++)
		zd_percpu_ref_reset(&side[i].ref);
}

static struct zd_fork_handler fork_handler = { .child = after_fork_child };

int zd_rcu_init(void)
{
	int err;

	if (ready)
		return 0;
	zd_fork_register(&fork_handler);
	for (unsigned int i = 0; i < 4; i++) {
		err = zd_percpu_ref_init(&side[i].ref, last_put, 0);
		if (err)
			goto err_exit;
	}
	ready = true;
	return 0;

err_exit:
	for (unsigned int i = 0; i < 4; i++)
		zd_percpu_ref_exit(&side[i].ref);
	return err;
}

unsigned int zd_rcu_read_lock(void)
{
	unsigned int s = pair() + __atomic_load_n(&current, __ATOMIC_RELAXED);

	while (!zd_percpu_ref_tryget_live(&side[s].ref)) {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		s ^= 1;
	}
	return s;
}

void zd_rcu_read_unlock(unsigned int section)
{
	zd_percpu_ref_put(&side[section].ref);
}

static void drain(unsigned int which)
{
	struct side *s = &side[pair() + which];

	__atomic_store_n(&current, !which, __ATOMIC_RELAXED);
	zd_completion_init(&s->idle);
	zd_percpu_ref_kill(&s->ref);
	zd_wait_for_completion(&s->idle);
	zd_percpu_ref_reinit(&s->ref);
}

void zd_synchronize_rcu(void)
{
	drain(0);
	drain(1);
}
