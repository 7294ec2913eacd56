/* SPDX-License-Identifier: MIT */
/* A tier is removed; the mechanism is told in tier_removal.h. */
#include <errno.h>

#include "engine/mig.h"
#include "engine/shift.h"
#include "engine/tier.h"
#include "engine/tier_removal.h"
#include "zonedev/log.h"

#define BATCH_PAGES	128

/* The next pages of the tier in @mm, from r->pos on, which moves behind them. */
static unsigned int collect(const struct zd_server *server, struct zd_tier_removal *r,
			    struct zd_place *places)
{
	struct zd_mm *mm = r->mm;
	unsigned int nr = 0;

	for (size_t i = zd_ranges_first(&mm->ranges, r->pos); i < mm->ranges.nr; i++) {
		const struct zd_range *range = &mm->ranges.v[i];
		uint64_t a = r->pos > range->start ? r->pos : range->start;

		for (a = zd_table_next(&mm->table, a, range->end); a < range->end;
		     a = zd_table_next(&mm->table, a + ZD_PAGE_SIZE, range->end)) {
			zd_entry_t e = *zd_mm_entry(mm, a);

			if (zd_entry_state(e) != ZD_ENTRY_DEVICE || e & ZD_ENTRY_LOCK ||
			    zd_server_device(server, zd_entry_val(e)) != r->dev)
				continue;
			r->pos = a + ZD_PAGE_SIZE;
			places[nr++] = (struct zd_place){ mm, a };
			if (nr == BATCH_PAGES)
				return nr;
		}
	}
	return nr;
}

/*
 * May a page of @from go to @to?  Where the server is a part of the program that it serves, pages
 * of malloc's own must not go to a driver that may call malloc (zonedev/device.h); which those are
 * has been asked for @from's driver only.
 */
static bool may_follow(const struct zd_server *server, const struct zd_tier *from,
		       const struct zd_tier *to)
{
	return to != from && zd_tier_may_take(server, to) &&
	       (!server->in_program || to->dev->ops->flags & ZD_DEVICE_NO_MALLOC ||
		!(from->dev->ops->flags & ZD_DEVICE_NO_MALLOC));
}

/* As zd_shift(), to the first tier below @tier that has room, then to the first above. */
static int shift_away(struct zd_server *server, const struct zd_tier *tier,
		      const struct zd_place *places, unsigned int nr)
{
	unsigned int at = 0;
	int rc = -ENOSPC;

	while (server->tiers[at] != tier)
		at++;
	for (unsigned int i = 1; i < server->nr_tiers; i++) {
		struct zd_shift_want want = {
			.to = server->tiers[at + i < server->nr_tiers ? at + i :
									at + i - server->nr_tiers],
		};

		if (!may_follow(server, tier, want.to))
			continue;
		rc = zd_shift(server, places, nr, &want);
		if (rc != -ENOSPC && rc != -ENODEV && rc != -EIO)
			return rc;
	}
	return rc;
}

/* Pages of r->mm go to other tiers. */
static enum zd_cmd_result shift_step(struct zd_server *server, const struct zd_tier *tier,
				     struct zd_tier_removal *r)
{
	struct zd_place places[BATCH_PAGES];
	uint64_t pos = r->pos;
	unsigned int nr = r->homes_only ? 0 : collect(server, r, places);
	int rc;

	if (!nr) {
		r->shifted = true;
		return ZD_CMD_AGAIN;
	}
	rc = shift_away(server, tier, places, nr);
	if (rc == -ENOBUFS) {	/* a batch must land first */
		r->pos = pos;
		return ZD_CMD_WAIT;
	}
	if (rc < 0)		/* no tier has room */
		r->shifted = true;
	else
		r->pos = places[rc - 1].addr + ZD_PAGE_SIZE;
	return ZD_CMD_AGAIN;
}

/* The removal ends here, for @error. */
static enum zd_cmd_result called_off(struct zd_tier *tier, int error, int *rc)
{
	*rc = error == -ENOMEM || error == -EAGAIN ? error : -EIO;
	tier->removing = false;
	zd_log(ZD_LOG_WARN, "%s stays: %s", tier->dev->name,
	       error == -ENOMEM ? "no memory for what is on it" :
	       error == -EAGAIN ? "it can't be reached now" :
				  "it can't read back what is on it");
	return ZD_CMD_DONE;
}

static void begin_mm(struct zd_tier_removal *r, struct zd_mm *mm)
{
	r->mm = mm;
	r->pos = 0;
	r->shifted = false;
	r->homing = (struct zd_homing){ .end = UINT64_C(1) << ZD_VA_BITS, .dev = r->dev };
}

enum zd_cmd_result zd_tier_removal_step(struct zd_server *server, struct zd_tier_removal *r,
					int *rc)
{
	struct zd_tier *tier = zd_server_find_tier(server, r->dev);
	struct zd_mm *mm;

	*rc = 0;
	if (!tier)
		return ZD_CMD_DONE;
	tier->removing = true;
	cds_list_for_each_entry(mm, &server->mms, node) {
		enum zd_cmd_result result;

		if (!mm->on_tier[tier->slot] || mm->dead)
			continue;
		if (r->mm != mm)
			begin_mm(r, mm);
		if (!r->shifted)
			return shift_step(server, tier, r);
		result = zd_homing_step(mm, &r->homing, rc);
		if (r->homing.error || *rc)
			return called_off(tier, r->homing.error ? r->homing.error : *rc, rc);
		if (result != ZD_CMD_DONE)
			return result;
		if (mm->on_tier[tier->slot]) {	/* behind r->homing.pos: moved there, or landed */
			r->mm = NULL;
			return ZD_CMD_AGAIN;
		}
	}
	/* batches land by themselves; their pages are put back, home, or elsewhere */
	return zd_migs_to(server, r->dev) ? ZD_CMD_WAIT : ZD_CMD_DONE;
}

void zd_tier_removal_cancel(struct zd_server *server, struct zd_tier_removal *r)
{
	struct zd_tier *tier = zd_server_find_tier(server, r->dev);

	if (tier)
		tier->removing = false;
}
