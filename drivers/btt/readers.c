/* SPDX-License-Identifier: MIT */
/* Which data blocks are being read: mechanism and ordering are told in readers.h. */
#include "drivers/btt/readers.h"

#include <limits.h>
#include <sched.h>

#include "base/tls.h"

#define WAITER	(UINT32_C(1) << 31)	/* in a slot: a writer waits for the reader */
#define TAKEN	(WAITER - 1)		/* a reader has the slot, and reads nothing yet */

/* Any thread that has no slot; spins while there is none. */
uint32_t *zd_btt_take_reader(struct zd_btt *btt)
{
	static uint32_t threads;
	static ZD_TLS uint32_t mine;	/* where to look first, plus one */

	if (!mine)
		mine = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED) % ZD_BTT_READERS + 1;
	for (;;) {
		for (uint32_t i = 0; i < ZD_BTT_READERS; i++) {
			uint32_t *word = &btt->readers[(mine + i) % ZD_BTT_READERS].word;
			uint32_t empty = 0;

			if (!__atomic_load_n(word, __ATOMIC_RELAXED) &&
			    __atomic_compare_exchange_n(word, &empty, TAKEN, false,
							__ATOMIC_RELAXED, __ATOMIC_RELAXED))
				return word;
		}
		/* more readers than slots: wait until one of them is done */
		sched_yield();
	}
}

/* Sequentially consistent: a full fence between the store and the load of the map that follows;
 * pairs with the fence in zd_btt_wait_readers(). */
void zd_btt_set_reader(uint32_t *slot, uint32_t value)
{
	if (__atomic_exchange_n(slot, value, __ATOMIC_SEQ_CST) & WAITER)
		zd_futex_wake(slot, INT_MAX);
}

static bool is_one_of(uint32_t value, const uint32_t *at, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		if ((value & ~WAITER) == at[i] + 1)
			return true;
	return false;
}

/* The thread that has the lanes of these data blocks; blocks, at most for a copy each. */
void zd_btt_wait_readers(struct zd_btt *btt, const uint32_t *at, uint32_t nr)
{
	/* the map was changed before; pairs with the exchange in zd_btt_set_reader() */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < ZD_BTT_READERS; i++) {
		uint32_t *word = &btt->readers[i].word, value;

		/* acquire: the reader's loads come before the store that empties its slot */
		while ((value = __atomic_load_n(word, __ATOMIC_ACQUIRE)) &&
		       is_one_of(value, at, nr)) {
			uint32_t waited = value | WAITER;

			if (value == waited ||
			    __atomic_compare_exchange_n(word, &value, waited, false,
							__ATOMIC_RELAXED, __ATOMIC_RELAXED))
				zd_futex_wait(word, waited, -1);
		}
	}
}
