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

/*
 * Copy [addr, addr + nr pages), DEVICE entries of one device that are not locked, from @content and
 * let the device pages go.  Returns pages done, or -errno for the first.
 *
 * @wake: the copy also wakes the threads that wait for the copied pages, which saves a
 * system call.  So the entries change first: from the copy on the program may write to
 * the page, and its entry must not lead to the device's older content.  The device pages
 * are put later (delayed_put.h).
 */
int zd_home_place(struct zd_mm *mm, uint64_t addr, unsigned int nr, const char *content, bool wake);

#endif
