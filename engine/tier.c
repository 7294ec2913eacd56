/* SPDX-License-Identifier: MIT */
/* Devices come and go; what tiers are is told in tier.h. */
#include <errno.h>
#include <string.h>

#include "base/bug.h"
#include "engine/tier.h"

static void tier_ready(struct zd_source *source, uint32_t events)
{
	struct zd_tier *tier = caa_container_of(source, struct zd_tier, source);

	(void)events;
	/* another source of the same wait may have detached the device */
	if (tier->dev)
		tier->dev->ops->reap(tier->dev, false);
}

struct zd_tier *zd_server_find_tier(const struct zd_server *server, const struct zd_device *dev)
{
	for (unsigned int i = 0; i < server->nr_tiers; i++)
		if (server->tiers[i]->dev == dev)
			return server->tiers[i];
	return NULL;
}

/* dev->server becomes @server. */
static int own_device(struct zd_server *server, struct zd_device *dev)
{
	void *owner = NULL;
	int rc = 0;

	/* Two servers may want the device at once; and a thread that submits to it without a
	 * server finishes first.  The server doesn't wait for that thread, which may touch
	 * memory whose faults this server serves. */
	if (!zd_trylock_word(&dev->submit_lock))
		return -EAGAIN;
	if (!__atomic_compare_exchange_n(&dev->server, &owner, server, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE))
		rc = -EBUSY;
	zd_unlock_word(&dev->submit_lock);
	return rc;
}

static void disown_device(struct zd_device *dev)
{
	/* release: pairs with the exchange in own_device() of the next server */
	__atomic_store_n(&dev->server, NULL, __ATOMIC_RELEASE);
}

int zd_server_attach(struct zd_server *server, struct zd_device *dev)
{
	struct zd_tier *tier = NULL;
	int rc;

	if (zd_server_find_tier(server, dev))
		return 0;
	for (unsigned int i = 0; i < ZD_TIERS_MAX && !tier; i++)
		if (!server->tier_slots[i].dev)
			tier = &server->tier_slots[i];
	if (!tier)
		return -ENOSPC;
	rc = own_device(server, dev);
	if (rc)
		return rc;
	*tier = (struct zd_tier){
		.dev = dev,
		.slot = tier - server->tier_slots,
		.source = { .fd = dev->event_fd, .ready = tier_ready },
	};
	if (dev->event_fd >= 0) {
		rc = zd_loop_add(&server->loop, &tier->source);
		if (rc) {
			tier->dev = NULL;
			disown_device(dev);
			return rc;
		}
	}
	server->tiers[server->nr_tiers++] = tier;
	return 0;
}

void zd_server_detach(struct zd_server *server, struct zd_device *dev)
{
	struct zd_tier *tier = zd_server_find_tier(server, dev);
	unsigned int i = 0;

	if (!tier)
		return;
	ZD_BUG_ON(server->nr_delayed_puts, "%u pages of a device that is let go are still held",
		  server->nr_delayed_puts);
	ZD_BUG_ON(tier->nr_entries, "%s is let go with %llu entries on it", dev->name,
		  (unsigned long long)tier->nr_entries);
	if (tier->source.fd >= 0)
		zd_loop_remove(&server->loop, &tier->source);
	while (server->tiers[i] != tier)
		i++;
	server->nr_tiers--;
	memmove(&server->tiers[i], &server->tiers[i + 1],
		(server->nr_tiers - i) * sizeof(server->tiers[0]));
	tier->dev = NULL;
	disown_device(dev);
}

void zd_server_detach_all(struct zd_server *server)
{
	while (server->nr_tiers)
		zd_server_detach(server, server->tiers[server->nr_tiers - 1]->dev);
}
