/* SPDX-License-Identifier: MIT */
/* serve/clock.h - moments, for the pthread calls that wait until one. */
#ifndef ZD_SERVE_CLOCK_H
#define ZD_SERVE_CLOCK_H

#include <time.h>

/* clock_in_ms - the moment @ms from now. */
static inline struct timespec clock_in_ms(unsigned int ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += ms % 1000 * 1000000L;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	return until;
}

#endif
