/* SPDX-License-Identifier: MIT */
/* From a survey's findings to managed memory. */
#ifndef ZD_RUN_SCAN_H
#define ZD_RUN_SCAN_H

#include <stdbool.h>
#include <stdint.h>

struct process;

/* All in the server's thread; none blocks on a program. */

/* Ask for a survey.  False: not now, since one is under way or the last was a moment ago. */
bool scan(struct process *p);

/* Take what the scout has found, and manage some of it.  True: there is more. */
bool scan_step(struct process *p);

/* Must this page be in RAM, because a thread may end? */
bool scan_is_unevictable(const struct process *p, uint64_t addr);

#endif
