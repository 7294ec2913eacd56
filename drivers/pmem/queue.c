/* SPDX-License-Identifier: MIT */
/*
 * The queue: which requests are in the region.
 *
 * A request holds two references.  That of the pagemap is the usage counter: removal waits for
 * it, as it does for pages.  The gate is a reference count of the queue's own, which counts the
 * same requests and nothing else; a freeze kills the gate and waits for its last holder, an
 * unfreeze brings it to life again.  With one count for both, as Linux had, a freeze would wait
 * for every pinned page.
 *
 * A request takes the gate first and puts it last, so that a holder of the gate may look at the
 * pagemap's reference: removal waits for the gate to be empty before the pagemap goes.
 *
 * Threads that wait at a closed gate sleep on @changes.  The end of a freeze and the death of the
 * queue change it, after they have opened the gate or set @dying; so a thread that reads
 * @changes first, and then finds the gate closed, can't miss the change.
 */
#include <errno.h>
#include <limits.h>

#include "drivers/pmem/pmem.h"
#include "zonedev/log.h"

/* Release callback of the gate: the context of any zd_percpu_ref_put(); must not sleep. */
static void gate_empty(struct zd_percpu_ref *gate)
{
	zd_complete(&caa_container_of(gate, struct zd_pmem_queue, gate)->empty);
}

int zd_pmem_queue_init(struct zd_pmem_queue *q)
{
	return zd_percpu_ref_init(&q->gate, gate_empty, 0);
}

void zd_pmem_queue_destroy(struct zd_pmem_queue *q)
{
	zd_percpu_ref_exit(&q->gate);
}

uint64_t zd_pmem_queue_users(const struct zd_pmem_queue *q)
{
	/* less the initial reference, while that is there */
	int64_t n = zd_percpu_ref_read(&q->gate) - !zd_percpu_ref_is_dying(&q->gate);

	return n < 0 ? 0 : (uint64_t)n;
}

static bool is_dying(const struct zd_pmem_queue *q)
{
	return __atomic_load_n(&q->dying, __ATOMIC_ACQUIRE);
}

static void tell_waiters(struct zd_pmem_queue *q)
{
	/* release: pairs with the acquire in zd_pmem_queue_enter(): the gate, or @dying, first */
	__atomic_add_fetch(&q->changes, 1, __ATOMIC_RELEASE);
	zd_futex_wake(&q->changes, INT_MAX);
}

/* Any thread that isn't in the queue; blocks while it is frozen. */
int zd_pmem_queue_enter(struct zd_pmem *pmem, unsigned int flags)
{
	struct zd_pmem_queue *q = &pmem->queue;

	if (flags & ~ZD_PMEM_NOWAIT)
		return -EINVAL;
	for (;;) {
		uint32_t changes = __atomic_load_n(&q->changes, __ATOMIC_ACQUIRE);

		if (zd_percpu_ref_tryget_live(&q->gate))
			break;
		if (is_dying(q))
			return -ENODEV;
		if (flags & ZD_PMEM_NOWAIT)
			return -EAGAIN;
		zd_futex_wait(&q->changes, changes, -1);
	}
	if (zd_percpu_ref_tryget_live(q->usage))
		return 0;
	zd_percpu_ref_put(&q->gate);
	return -ENODEV;
}

/* Any thread, once for each zd_pmem_queue_enter(); doesn't block. */
void zd_pmem_queue_exit(struct zd_pmem *pmem)
{
	zd_percpu_ref_put(pmem->queue.usage);
	zd_percpu_ref_put(&pmem->queue.gate);
}

/* q->lock is held.  Doesn't block. */
static void close_gate(struct zd_pmem_queue *q)
{
	if (q->depth++)
		return;
	zd_completion_init(&q->empty);
	zd_percpu_ref_kill(&q->gate);
}

void zd_pmem_queue_freeze_start(struct zd_pmem *pmem)
{
	zd_mutex_lock(&pmem->queue.lock);
	close_gate(&pmem->queue);
	zd_mutex_unlock(&pmem->queue.lock);
}

bool zd_pmem_queue_freeze_wait(struct zd_pmem *pmem, unsigned int ms)
{
	return zd_wait_for_completion_timeout(&pmem->queue.empty, ms);
}

void zd_pmem_queue_freeze(struct zd_pmem *pmem)
{
	zd_pmem_queue_freeze_start(pmem);
	zd_wait_for_completion(&pmem->queue.empty);
}

/* The thread that has frozen it, or another for it; blocks until the gate is empty. */
void zd_pmem_queue_unfreeze(struct zd_pmem *pmem)
{
	struct zd_pmem_queue *q = &pmem->queue;

	zd_mutex_lock(&q->lock);
	/* Only an empty gate can be opened.  The lock isn't held over the wait, since a removal
	 * that must not block takes it, too. */
	while (q->depth == 1 && !zd_wait_for_completion_timeout(&q->empty, 0)) {
		zd_mutex_unlock(&q->lock);
		zd_wait_for_completion(&q->empty);
		zd_mutex_lock(&q->lock);
	}
	if (!q->depth)
		zd_warn_once("zd_pmem_queue_unfreeze: the queue isn't frozen");
	else if (!--q->depth) {
		zd_percpu_ref_reinit(&q->gate);
		tell_waiters(q);
	}
	zd_mutex_unlock(&q->lock);
}

/* The thread that removes the region; doesn't block. */
void zd_pmem_queue_die(struct zd_pmem_queue *q)
{
	/* first: a thread that finds the gate closed by this must not wait */
	__atomic_store_n(&q->dying, true, __ATOMIC_RELEASE);
	zd_mutex_lock(&q->lock);
	close_gate(q);
	zd_mutex_unlock(&q->lock);
	tell_waiters(q);
}
