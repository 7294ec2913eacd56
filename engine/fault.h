/* SPDX-License-Identifier: MIT */
/* One CPU fault on managed memory. */
#ifndef ZD_ENGINE_FAULT_H
#define ZD_ENGINE_FAULT_H

#include "engine/mm.h"

/* Serve the fault at @addr, or let it wait.  @flags: of the message; @start_ns: when the
 * message was read, 0: the fault is not timed.  The server's thread; does not block. */
void zd_fault(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns);

#endif
