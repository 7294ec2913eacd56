/* SPDX-License-Identifier: MIT */
/* Demotion; the mechanism is told in demote.h. */
#include <errno.h>

#include "base/time.h"
#include "engine/demote.h"
#include "engine/shift.h"
#include "engine/tier.h"
#include "engine/tier_queue.h"
#include "engine/tier_share.h"

#define DEMOTE_PAGES	64		/* a batch, */
#define FAULT_PAGES	8		/* and in a turn that has served a fault */
#define HEADROOM_MAX	4096		/* pages that a tier keeps free */
#define PAUSE_NS	100000000ull	/* when none could go */

static bool is_above_mark(const struct zd_server *server, const struct zd_tier *tier, uint64_t now)
{
	uint64_t size = zd_device_usable_pages(tier->dev), headroom = size / 16;

	if (!tier->nr_entries || now < tier->demote_after_ns)
		return false;
	if (headroom > HEADROOM_MAX)
		headroom = HEADROOM_MAX;
	return tier->nr_entries + headroom > size || tier->owed ||
	       zd_tier_ram_pages(tier) > zd_tier_ram_share(server, tier);
}

static void landed(struct zd_mig *mig)
{
	struct zd_tier *tier = mig->data;

	mig->server->demoting = false;
	tier->pages_demoted += mig->gone;
	tier->owed -= tier->owed < mig->gone ? tier->owed : mig->gone;
	if (!mig->gone)
		tier->demote_after_ns = zd_now_ns() + PAUSE_NS;
}

/* True: a batch has been sent. */
static bool demote(struct zd_server *server, struct zd_tier *tier)
{
	struct zd_place places[DEMOTE_PAGES];
	struct zd_shift_want want = { .pass_on = true, .landed = landed, .data = tier };
	unsigned int nr;
	int rc = -ENOSPC;

	if (!zd_server_next_tier(server, tier))
		return false;
	nr = zd_tier_take_coldest(server, tier, places,
				  server->last_fault ? FAULT_PAGES : DEMOTE_PAGES);
	if (!nr)
		return false;
	server->demoting = true;
	want.to = tier;
	while (rc < 0 && (want.to = zd_server_next_tier(server, want.to)))
		rc = zd_shift(server, places, nr, &want);
	if (rc > 0)
		return true;
	server->demoting = false;
	tier->demote_after_ns = zd_now_ns() + PAUSE_NS;
	for (unsigned int i = 0; i < nr; i++)
		zd_tier_enter(places[i].mm, places[i].addr);
	return false;
}

void zd_server_demote(struct zd_server *server)
{
	uint64_t now;

	server->demote_more = false;
	if (!server->track || server->nr_tiers < 2 || server->demoting || server->backlog.nr ||
	    server->hold_evictions)
		return;
	now = zd_now_ns();
	for (unsigned int i = 0; i + 1 < server->nr_tiers; i++) {
		struct zd_tier *tier = server->tiers[i];

		if (!tier->removing && is_above_mark(server, tier, now) && demote(server, tier)) {
			/* a batch that is in flight announces its end */
			server->demote_more = !server->demoting;
			return;
		}
	}
}
