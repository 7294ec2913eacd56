/* SPDX-License-Identifier: MIT */
/* Eviction: keep zd_server_used() at server->limit.  The server's thread; neither call blocks. */
#ifndef ZD_ENGINE_EVICT_H
#define ZD_ENGINE_EVICT_H

#include "engine/server_types.h"

/* Start evictions if more pages are resident than should be. */
void zd_server_evict(struct zd_server *server);
/* Is a fault that adds a page to wait for an eviction that is under way? */
bool zd_server_throttle(struct zd_server *server);

#endif
