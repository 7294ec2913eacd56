/* SPDX-License-Identifier: MIT */
/* Home: device pages back to program memory.  The server's thread; the call doesn't block. */
#ifndef ZD_ENGINE_HOME_H
#define ZD_ENGINE_HOME_H

#include "engine/mig.h"

/*
 * Bring @nr pages from @addr on (all DEVICE, not locked) home; @needed is
 * the one that the fault is about.  A run ends where the pages
 * are another device's.  Returns how many were done or started, or
 * -errno for the first: -EAGAIN: an event waits to be read; -ENOBUFS: too many
 * batches in flight; -ENOENT, -ESRCH: the mapping, the address space is gone;
 * -ENOMEM.
 */
int zd_home(struct zd_mm *mm, uint64_t addr, unsigned int nr, enum zd_home_for why, uint64_t needed,
	    uint64_t start_ns);

#endif
