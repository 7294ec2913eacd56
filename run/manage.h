/* SPDX-License-Identifier: MIT */
/* Registering memory. */
#ifndef ZD_RUN_MANAGE_H
#define ZD_RUN_MANAGE_H

#include <stdbool.h>
#include <stdint.h>

struct found;
struct process;

#define RUN_PAGES	64	/* resident pages queued together: an eviction's worth */

/* Both in the server's thread; they don't block on the program. */

/* Manage a mapping that a survey has found, as it is by now. */
void manage_found(struct process *p, const struct found *f);

/* A fault at @addr, outside of what is listed: list its mapping.  False: there is none that
 * can be managed. */
bool manage_unknown(struct process *p, uint64_t addr);

#endif
