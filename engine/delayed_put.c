/* SPDX-License-Identifier: MIT */
#include "engine/delayed_put.h"
#include "zonedev/page.h"

void zd_flush_delayed_puts(struct zd_server *server)
{
	for (unsigned int i = 0; i < server->nr_delayed_puts; i++)
		zd_put_page(zd_pfn_to_page(server->delayed_puts[i]));
	server->nr_delayed_puts = 0;
}
