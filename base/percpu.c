/* SPDX-License-Identifier: MIT */
/* Per-CPU slots: their allocation, and a thread's CPU where rseq(2) doesn't tell it. */
#include "base/percpu.h"

#include <sched.h>
#include <unistd.h>

#include "base/alloc.h"

#define MAX_SLOTS	4096u	/* with more CPUs several share a slot */

struct zd_percpu_slot *zd_percpu_alloc(uint32_t *mask)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	uint32_t n = 1;

	while (n < MAX_SLOTS && (long)n < cpus)
		n *= 2;
	*mask = n - 1;
	return zd_alloc(n * sizeof(struct zd_percpu_slot));
}

uint32_t __zd_getcpu_slow(void)
{
	int cpu = sched_getcpu();

	return cpu < 0 ? 0 : (uint32_t)cpu;
}
