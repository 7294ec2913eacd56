/* SPDX-License-Identifier: MIT */
/*
 * The server: one thread that owns everything that decides.
 *
 * Mechanism.  One epoll loop over userfaultfds, the devices' completions and the sources
 * that the host adds (sockets, timers, commands).  Entries, ranges, queues and batches
 * belong to this thread alone, so none of them needs a lock: each message, completion and
 * command is handled wholly before the next is looked at.  (Events that can't be followed
 * yet are logged: changes.c.)  Nothing in the loop blocks on the programs that are served;
 * what must wait (a fault on a locked entry, a move that an agent makes) is a state,
 * not a sleeping thread.
 *
 * The server doesn't know whose address spaces it serves: see struct
 * zd_server_host.
 */
#ifndef ZD_ENGINE_SERVER_H
#define ZD_ENGINE_SERVER_H

#include "base/time.h"
#include "engine/server_types.h"
#include "engine/tier.h"

/* Devices come with zd_server_attach() (tier.h).  0 or -errno. */
int zd_server_init(struct zd_server *server, const struct zd_server_host *host, void *host_data);
/* When no batch is in flight any more, and no address space is left. */
void zd_server_destroy(struct zd_server *server);

#endif
