/* SPDX-License-Identifier: MIT */
/* Per-CPU slots: a cache line a CPU, for counts that many threads write. */
#ifndef ZD_BASE_PERCPU_H
#define ZD_BASE_PERCPU_H

#include <zonedev/percpu_ref.h>

/* zd_percpu_alloc - zeroed slots, a power of two of them; @mask: one less.
 * NULL: out of memory.  zd_free() them. */
struct zd_percpu_slot *zd_percpu_alloc(uint32_t *mask);

/* zd_percpu_ref_reset - as zd_percpu_ref_init() left it, whatever state @ref was copied in
 * by a fork; by the only thread. */
void zd_percpu_ref_reset(struct zd_percpu_ref *ref);

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
