/* SPDX-License-Identifier: MIT */
/* How much RAM the processes use. */
#ifndef ZD_RUN_BUDGET_H
#define ZD_RUN_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct process;
struct zd_server;

/* All in the server's thread; reading statm may wait for the kernel's locks of the process. */

/* budget_resync - count again, and correct @server->resident (zd_server_host's resync). */
void budget_resync(struct zd_server *server);

/* The process's mapped pages, and the resident anonymous ones.  False: it has ended. */
bool budget_read(struct process *p, uint64_t *size, uint64_t *anon);

#endif
