/* SPDX-License-Identifier: MIT */
/*
 * Device pages that have come home are put a moment later: the thread that waited for the
 * page goes on first.  Not much later: before the server sleeps, before it looks at an
 * event, before it takes pages of the device and finds too few, and before
 * zd_server_poll() returns.  So commands, reports and removals don't meet such a page.
 */
#ifndef ZD_ENGINE_DELAYED_PUT_H
#define ZD_ENGINE_DELAYED_PUT_H

#include "engine/server_types.h"

/* Put all of them now.  The server's thread; drivers' ->page_free runs in this call. */
void zd_flush_delayed_puts(struct zd_server *server);

/* Put a reference to the device page @pfn, which has been copied home. */
static inline void zd_delay_put(struct zd_server *server, zd_pfn_t pfn)
{
	if (server->nr_delayed_puts == ZD_DELAYED_PUTS)
		zd_flush_delayed_puts(server);
	server->delayed_puts[server->nr_delayed_puts++] = pfn;
}

#endif
