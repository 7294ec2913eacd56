/* SPDX-License-Identifier: MIT */
/*
 * Scheduling attributes as sched_getattr(2) and sched_setattr(2) have them, which libc only
 * declares since glibc 2.41.
 */
#ifndef ZD_BASE_SCHED_H
#define ZD_BASE_SCHED_H

#include <stdint.h>

/* The kernel's struct sched_attr, in its first size. */
struct zd_sched {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/*
 * The shortest time slice that Linux gives.  A thread with it that wakes runs as soon as one
 * of a lower nice value would (Linux 6.12 and later); and unlike a nice value it doesn't show
 * in getpriority().
 */
#define ZD_SCHED_SLICE_MIN_NS	100000

#endif
