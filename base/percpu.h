/* SPDX-License-Identifier: MIT */
/* Per-CPU slots: a cache line a CPU, for counts that many threads write. */
#ifndef ZD_BASE_PERCPU_H
#define ZD_BASE_PERCPU_H

#include <zonedev/percpu_ref.h>

/* zd_percpu_alloc - zeroed slots, for as many CPUs as there may ever be, rounded up to a
 * power of two; @mask: one less.  NULL: out of memory.  zd_free() gives them back. */
struct zd_percpu_slot *zd_percpu_alloc(uint32_t *mask);

static inline void zd_percpu_add(struct zd_percpu_slot *slots, uint32_t mask, int64_t n)
{
	__atomic_add_fetch(&slots[__zd_getcpu() & mask].value, n, __ATOMIC_RELAXED);
}

static inline int64_t zd_percpu_sum(const struct zd_percpu_slot *slots, uint32_t mask)
{
	int64_t sum = 0;

	for (uint32_t i = 0; i <= mask; i++)
		sum += __atomic_load_n(&slots[i].value, __ATOMIC_ACQUIRE);
	return sum;
}

#endif
