/* SPDX-License-Identifier: MIT */
/*
 * Faults that have to wait for a batch, for room, for changes to be followed, or for a device
 * that can't be reached.  Each whose time has come is tried once a turn (poll.c); what must
 * wait on is entered again.  The server's thread.
 */
#ifndef ZD_ENGINE_BACKLOG_H
#define ZD_ENGINE_BACKLOG_H

#include "engine/mm.h"

struct zd_waiting_fault {
	unsigned int slot;	/* the address space's, which may have died */
	uint64_t addr;
	uint64_t start_ns;
	uint64_t flags;
	uint64_t after_ns;	/* not to be tried before */
};

/* The fault tries again in the next turn.  Out of memory: it is woken instead, and comes
 * again by itself. */
void zd_fault_defer(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns);

/* The same, but not before @after_ns; once, however often the thread faults meanwhile. */
void zd_fault_defer_until(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns,
			  uint64_t after_ns);

/* When the first is to be tried; UINT64_MAX: none waits. */
uint64_t zd_backlog_due_ns(const struct zd_backlog *backlog);

/* Those from index @first to before @end have been tried. */
void zd_backlog_drop(struct zd_backlog *backlog, size_t first, size_t end);

/* @mm dies: no thread waits for its faults any more. */
void zd_backlog_forget(struct zd_backlog *backlog, const struct zd_mm *mm);

#endif
