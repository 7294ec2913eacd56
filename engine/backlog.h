/* SPDX-License-Identifier: MIT */
/*
 * Faults that have to wait for a batch, for room, or for changes to be followed.  Each is
 * tried once a turn (poll.c); what must wait on is entered again.  The server's thread.
 */
#ifndef ZD_ENGINE_BACKLOG_H
#define ZD_ENGINE_BACKLOG_H

#include "engine/mm.h"

struct zd_waiting_fault {
	unsigned int slot;	/* the address space's, which may have died */
	uint64_t addr;
	uint64_t start_ns;
	uint64_t flags;
};

/* The fault tries again in the next turn.  Out of memory: it is woken instead, and comes
 * again by itself. */
void zd_fault_defer(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns);

/* The first @nr have been tried. */
void zd_backlog_drop_first(struct zd_backlog *backlog, size_t nr);

/* @mm dies: no thread waits for its faults any more. */
void zd_backlog_forget(struct zd_backlog *backlog, const struct zd_mm *mm);

#endif
