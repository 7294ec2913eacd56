/* SPDX-License-Identifier: MIT */
/*
 * Demotion: a tier above its mark sends its coldest pages to the next.
 *
 * A tier is above its mark when it is nearly full, when it had no page a moment ago, or when
 * its contents take more than their share of server->limit.  Each turn of the server
 * sends a few pages, fewer after a fault and none while faults wait, and one batch is in flight
 * at a time.
 */
#ifndef ZD_ENGINE_DEMOTE_H
#define ZD_ENGINE_DEMOTE_H

#include "engine/server_types.h"

/* At the end of a turn.  The server's thread; doesn't block. */
void zd_server_demote(struct zd_server *server);

#endif
