/* SPDX-License-Identifier: MIT */
/* The share of a tier in RAM; the mechanism is told in tier_share.h. */
#include "engine/tier.h"
#include "engine/tier_share.h"

#define SHARE_MAX	2	/* a half, */
#define SHARE_MIN	32	/* and a 32nd of the limit */

/* What a fault costs, in eighths of one on the tier below: decompressing a page takes some 3 us,
 * and reading it from an SSD, or from another machine, some 50. */
#define COST_BELOW	8
#define COST_RAM	1

uint64_t zd_tier_ram_share(const struct zd_server *server, const struct zd_tier *tier)
{
	uint64_t max = server->limit / SHARE_MAX, min = server->limit / SHARE_MIN;
	uint64_t share = tier->share / COST_BELOW;

	if (!server->limit)
		return UINT64_MAX / 2;
	if (!tier->share || share > max)
		return max;
	return share > min ? share : min;
}

/* tier->share is in parts of a page, COST_BELOW of them.  @ram: pages that @tier takes.  @by: what
 * a fault has saved, in parts. */
static void move_share(const struct zd_server *server, struct zd_tier *tier, uint64_t ram, int by)
{
	uint64_t share = zd_tier_ram_share(server, tier) * COST_BELOW + tier->share % COST_BELOW;

	/* what the tier doesn't use is no share that could be given back */
	if (by < 0 && share > (ram + ram / 8) * COST_BELOW)
		share = (ram + ram / 8) * COST_BELOW;
	tier->share = by < 0 && share <= (uint64_t)-by ? 1 : share + by;
}

void zd_server_weigh_shares(struct zd_server *server, zd_entry_t entry)
{
	const struct zd_tier *from;
	uint64_t distance;

	if (!server->limit || server->nr_tiers < 2)
		return;
	from = zd_server_tier_of(server, zd_entry_val(entry));
	distance = zd_lru_refault_distance(&server->lru, entry);
	for (unsigned int i = 0; i + 1 < server->nr_tiers; i++) {
		struct zd_tier *tier = server->tiers[i];
		uint64_t ram;

		if (!tier->dev->ops->ram_bytes)
			continue;
		ram = zd_tier_ram_pages(tier);
		if (tier == from)
			move_share(server, tier, ram,
				   distance > ram ? COST_BELOW - COST_RAM : -COST_RAM);
		else if (distance <= ram)
			move_share(server, tier, ram, -COST_BELOW);
	}
}
