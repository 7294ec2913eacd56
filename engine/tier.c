/* SPDX-License-Identifier: MIT */
/* Devices come and go; what tiers are is told in tier.h. */
#include <errno.h>
#include <string.h>

#include "base/bug.h"
#include "base/time.h"
#include "engine/tier.h"
#include "engine/tier_share.h"

#define PAUSE_MIN_NS	1000000ull
#define PAUSE_MAX_NS	1000000000ull
#define FULL_NS		100000000ull	/* a tier that had no page: one may have been freed since */
#define OWED_MAX	1024		/* pages that it sends on then */

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
		.dev = dev, .pfn = dev->pgmap.pfn, .nr_pages = dev->nr_pages,
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

/* The clock is read only where something is amiss. */
static bool is_in_reach(const struct zd_server *server, const struct zd_tier *tier)
{
	if (tier->reach.away_since_ns && !zd_reach_may_ask(&tier->reach, zd_now_ns()))
		return false;
	return !zd_tier_is_busy(server, tier) || zd_reach_is_writing(&tier->reach, zd_now_ns());
}

bool zd_server_is_in_reach(const struct zd_server *server)
{
	for (unsigned int i = 0; i < server->nr_tiers; i++)
		if (!is_in_reach(server, server->tiers[i]))
			return false;
	return true;
}

static bool is_paused(const struct zd_tier *tier)
{
	return tier->pause_until_ns && zd_now_ns() < tier->pause_until_ns;
}

bool zd_tier_has_room_below(const struct zd_server *server, const struct zd_tier *tier)
{
	uint64_t now = zd_now_ns();

	for (unsigned int i = server->nr_tiers; i-- && server->tiers[i] != tier;) {
		const struct zd_tier *t = server->tiers[i];

		if (!t->removing && !t->broken && now >= t->full_until_ns &&
		    now >= t->pause_until_ns && is_in_reach(server, t))
			return true;
	}
	return false;
}

bool zd_tier_may_take(const struct zd_server *server, const struct zd_tier *tier)
{
	uint64_t share = zd_tier_ram_share(server, tier);

	if (tier->removing || tier->broken || !is_in_reach(server, tier))
		return false;
	if (server->nr_tiers == 1)
		return true;
	return (!is_paused(tier) && zd_tier_ram_pages(tier) < share + share / 8) ||
	       !zd_tier_has_room_below(server, tier);
}

struct zd_tier *zd_server_next_tier(const struct zd_server *server, const struct zd_tier *tier)
{
	unsigned int i = 0;

	while (tier && i < server->nr_tiers && server->tiers[i++] != tier)
		;
	for (; i < server->nr_tiers; i++)
		if (zd_tier_may_take(server, server->tiers[i]))
			return server->tiers[i];
	return NULL;
}

void zd_tier_pause(struct zd_tier *tier)
{
	tier->pause_ns = tier->pause_ns ? tier->pause_ns * 2 : PAUSE_MIN_NS;
	if (tier->pause_ns > PAUSE_MAX_NS)
		tier->pause_ns = PAUSE_MAX_NS;
	tier->pause_until_ns = zd_now_ns() + tier->pause_ns;
}

void zd_tier_took(struct zd_tier *tier, unsigned int asked, int got)
{
	if (got >= (int)asked)
		return;
	tier->full_until_ns = zd_now_ns() + FULL_NS;
	tier->owed = tier->nr_entries / 8 < OWED_MAX ? tier->nr_entries / 8 : OWED_MAX;
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
	zd_fifo_destroy(&tier->queue);
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
