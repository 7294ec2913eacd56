/* SPDX-License-Identifier: MIT */
/*
 * What the server counts.  Only the server's thread writes; other threads may read values
 * that are a moment old.
 */
#ifndef ZD_ENGINE_STATS_H
#define ZD_ENGINE_STATS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/histogram.h"
#include "zonedev/mm.h"

struct zd_stats {
	struct zd_mm_stats c;
	struct zd_histogram latency;	/* of faults: message read to page in place */
};

/* The page of a fault at @addr is in place; before its thread is woken if the fault was
 * timed, that is @start_ns isn't 0. */
void zd_stats_fault_end(struct zd_stats *stats, uint64_t addr, uint64_t start_ns);

/*
 * To time a fault takes two reads of the clock, and one more system call, since its thread
 * is woken apart.  So only the first ZD_TIMED_FIRST are all timed, and then one of
 * ZD_TIMED_EACH, which stands for the others.
 */
#define ZD_TIMED_FIRST	1024
#define ZD_TIMED_EACH	16

/* The fault that was counted last: time it? */
static inline bool zd_stats_timed(const struct zd_stats *stats)
{
	return stats->c.faults <= ZD_TIMED_FIRST || !(stats->c.faults % ZD_TIMED_EACH);
}

static inline unsigned int zd_stats_weight(const struct zd_stats *stats)
{
	return stats->c.faults <= ZD_TIMED_FIRST ? 1 : ZD_TIMED_EACH;
}

#endif
