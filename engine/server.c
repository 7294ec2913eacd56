/* SPDX-License-Identifier: MIT */
/* A server's beginning and end; what a server is, is told in server.h. */
#include <string.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "engine/event.h"
#include "engine/mig.h"
#include "engine/server.h"

int zd_server_init(struct zd_server *server, const struct zd_server_host *host, void *host_data)
{
	memset(server, 0, sizeof(*server));
	server->host = host;
	server->host_data = host_data;
	CDS_INIT_LIST_HEAD(&server->mms);
	CDS_INIT_LIST_HEAD(&server->migs);
	CDS_INIT_LIST_HEAD(&server->spare_migs);
	server->mm_ready = zd_mm_ready;
	return zd_loop_init(&server->loop);
}

void zd_server_destroy(struct zd_server *server)
{
	ZD_BUG_ON(!cds_list_empty(&server->migs), "a server ends with pages in flight");
	zd_server_detach_all(server);
	zd_migs_free_spares(server);
	zd_lru_destroy(&server->lru);
	zd_free(server->backlog.v);
	zd_free(server->slots);
	zd_loop_destroy(&server->loop);
}
