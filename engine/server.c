/* SPDX-License-Identifier: MIT */
/* A server's beginning and end, and its device; what a server is, is told in server.h. */
#include <errno.h>
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
	server->dev_source.fd = -1;
	return zd_loop_init(&server->loop);
}

void zd_server_destroy(struct zd_server *server)
{
	ZD_BUG_ON(!cds_list_empty(&server->migs), "a server ends with pages in flight");
	zd_server_detach(server);
	zd_migs_free_spares(server);
	zd_lru_destroy(&server->lru);
	zd_free(server->backlog.v);
	zd_free(server->slots);
	zd_loop_destroy(&server->loop);
}

static void dev_ready(struct zd_source *source, uint32_t events)
{
	struct zd_server *server = caa_container_of(source, struct zd_server, dev_source);

	(void)events;
	server->dev->ops->reap(server->dev, false);
}

int zd_server_attach(struct zd_server *server, struct zd_device *dev)
{
	void *owner = NULL;
	int rc = 0;

	/* Two servers may want the device at once; and a thread that submits to it without a
	 * server finishes first.  The server doesn't wait for that thread, which may touch
	 * memory whose faults this server serves. */
	if (!zd_trylock_word(&dev->submit_lock))
		return -EAGAIN;
	if (!__atomic_compare_exchange_n(&dev->server, &owner, server, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE) &&
	    owner != server)
		rc = -EBUSY;
	zd_unlock_word(&dev->submit_lock);
	if (rc)
		return rc;
	server->dev = dev;
	if (dev->event_fd >= 0 && server->dev_source.fd < 0) {
		server->dev_source.fd = dev->event_fd;
		server->dev_source.ready = dev_ready;
		rc = zd_loop_add(&server->loop, &server->dev_source);
		if (rc)
			zd_server_detach(server);
	}
	return rc;
}

void zd_server_detach(struct zd_server *server)
{
	ZD_BUG_ON(server->nr_delayed_puts, "%u pages of a device that is let go are still held",
		  server->nr_delayed_puts);
	if (server->dev_source.fd >= 0)
		zd_loop_remove(&server->loop, &server->dev_source);
	server->dev_source.fd = -1;
	if (server->dev)
		__atomic_store_n(&server->dev->server, NULL, __ATOMIC_RELEASE);
	server->dev = NULL;
}
