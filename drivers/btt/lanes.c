/* SPDX-License-Identifier: MIT */
/* Lanes taken and given back, the longest unused first.  See lanes.h. */
#include "drivers/btt/lanes.h"

#include <limits.h>

#include "zonedev/log.h"

bool zd_btt_has_failed(const struct zd_btt *btt)
{
	return __atomic_load_n(&btt->failed, __ATOMIC_RELAXED);
}

/* ring_lock is held. */
static void tell_waiters(struct zd_btt *btt)
{
	/* a waiter reads it without the lock */
	__atomic_add_fetch(&btt->ring_turn, 1, __ATOMIC_RELAXED);
	zd_futex_wake(&btt->ring_turn, INT_MAX);
}

/* Any thread that has no lane and holds no lock; blocks until there is a lane. */
uint32_t zd_btt_take_lanes(struct zd_btt *btt, uint32_t nr, uint32_t *lanes)
{
	uint32_t n = 0;

	zd_mutex_lock(&btt->ring_lock);
	while (!btt->ring_nr && !zd_btt_has_failed(btt)) {
		uint32_t turn = __atomic_load_n(&btt->ring_turn, __ATOMIC_RELAXED);

		btt->ring_waiters++;
		zd_mutex_unlock(&btt->ring_lock);
		zd_futex_wait(&btt->ring_turn, turn, -1);
		zd_mutex_lock(&btt->ring_lock);
		btt->ring_waiters--;
	}
	for (; n < nr && btt->ring_nr && !zd_btt_has_failed(btt); n++) {
		lanes[n] = btt->ring[btt->ring_first];
		btt->ring_first = (btt->ring_first + 1) % btt->nr_lanes;
		btt->ring_nr--;
	}
	zd_mutex_unlock(&btt->ring_lock);
	return n;
}

/* The thread that has taken them; ring_lock only. */
void zd_btt_put_lanes(struct zd_btt *btt, uint32_t nr, const uint32_t *lanes)
{
	zd_mutex_lock(&btt->ring_lock);
	for (uint32_t i = 0; i < nr; i++)
		btt->ring[(btt->ring_first + btt->ring_nr++) % btt->nr_lanes] = lanes[i];
	if (btt->ring_waiters)
		tell_waiters(btt);
	zd_mutex_unlock(&btt->ring_lock);
}

/* The group's lock is held; takes ring_lock. */
void zd_btt_fail(struct zd_btt *btt)
{
	zd_warn_once(
		"pmem: a BTT's media failed while a block was being written: it can be read, and written again when it has been opened anew");
	zd_mutex_lock(&btt->ring_lock);
	__atomic_store_n(&btt->failed, true, __ATOMIC_RELAXED);
	tell_waiters(btt);
	zd_mutex_unlock(&btt->ring_lock);
}
