/* SPDX-License-Identifier: MIT */
/* The time since the system was started (CLOCK_MONOTONIC).  Any context. */
#ifndef ZD_BASE_TIME_H
#define ZD_BASE_TIME_H

#include <stdint.h>
#include <time.h>

static inline uint64_t zd_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Signed, so that a deadline may be -1, for none, and may have passed. */
static inline int64_t zd_now_ms(void)
{
	return zd_now_ns() / 1000000;
}

#endif
