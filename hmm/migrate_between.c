/* SPDX-License-Identifier: MIT */
/* zd_migrate_to_device(): the pages of the range that are on another device go to the one that is
 * asked for, without coming home.  The server's thread. */
#include <errno.h>

#include "engine/shift.h"
#include "engine/tier.h"
#include "hmm/migrate.h"

/* A batch of pages has landed. */
static void landed(struct zd_mig *mig)
{
	struct zd_migrate_between *b = mig->data;

	b->in_flight = false;
	b->result->moved += mig->gone;
	for (unsigned int i = 0; i < mig->nr; i++) {
		const struct zd_mig_page *p = &mig->page[i];

		if (p->error)
			b->result->device++;
	}
	/* the others were dropped meanwhile, or went home to a thread that waited for them */
}

/* The next pages to move, from b->pos on, all of one device. */
static unsigned int collect(struct zd_hmm *hmm, struct zd_migrate_between *b,
			    struct zd_place *places)
{
	const struct zd_ranges *r = &hmm->mm->ranges;
	struct zd_device *from = NULL;
	unsigned int nr = 0;

	for (size_t i = zd_ranges_first(r, b->pos); i < r->nr && r->v[i].start < b->end; i++) {
		uint64_t end = r->v[i].end < b->end ? r->v[i].end : b->end;
		uint64_t a = r->v[i].start > b->pos ? r->v[i].start : b->pos;

		for (a = zd_table_next(&hmm->mm->table, a, end); a < end;
		     a = zd_table_next(&hmm->mm->table, a + ZD_PAGE_SIZE, end)) {
			zd_entry_t e = *zd_mm_entry(hmm->mm, a);
			struct zd_device *dev;

			if (zd_entry_state(e) != ZD_ENTRY_DEVICE)
				continue;
			dev = zd_server_device(&hmm->server, zd_entry_val(e));
			if (dev == b->dev)
				continue;
			if (nr == ZD_MIG_MAX || (from && dev != from))
				return nr;
			b->pos = a + ZD_PAGE_SIZE;
			if (zd_ranges_find(b->stay, a)) {
				b->result->protection++;
			} else if (e & ZD_ENTRY_LOCK) {
				b->result->busy++;
			} else {
				from = dev;
				places[nr++] = (struct zd_place){ hmm->mm, a };
			}
		}
	}
	if (!nr)
		b->pos = b->end;
	return nr;
}

enum zd_cmd_result zd_migrate_between_step(struct zd_hmm *hmm, struct zd_migrate_between *b)
{
	struct zd_shift_want want = {
		.to = zd_server_find_tier(&hmm->server, b->dev), .landed = landed, .data = b,
	};
	struct zd_place places[ZD_MIG_MAX];
	uint64_t pos = b->pos;
	unsigned int nr;
	int rc;

	if (b->in_flight)
		return ZD_CMD_WAIT;
	if (b->pos >= b->end || hmm->server.nr_tiers < 2 || !want.to)
		return ZD_CMD_DONE;
	nr = collect(hmm, b, places);
	if (!nr)
		return ZD_CMD_DONE;
	b->in_flight = true;
	rc = zd_shift(&hmm->server, places, nr, &want);
	if (rc > 0) {
		b->pos = places[rc - 1].addr + ZD_PAGE_SIZE;
		return ZD_CMD_AGAIN;
	}
	b->in_flight = false;
	if (rc == -ENOBUFS) {
		b->pos = pos;
		return ZD_CMD_WAIT;
	}
	/* the device is full, or its removal has begun: the rest is only counted */
	b->result->device += nr;
	return ZD_CMD_AGAIN;
}
