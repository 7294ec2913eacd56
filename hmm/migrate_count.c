/* SPDX-License-Identifier: MIT */
/* What struct zd_migrate_result counts.  The server's thread, or a caller's for a command
 * that is done. */
#include <errno.h>

#include "engine/tier.h"
#include "hmm/migrate.h"

void zd_migrate_count(struct zd_migrate_result *r, const struct zd_mig_page *p)
{
	switch (p->error) {
	case 0:
		if (p->zero)
			r->zero++;
		else
			r->moved++;
		break;
	case -EBUSY:
		r->pinned++;
		break;
	case -EMLINK:
		r->shared++;
		break;
	case -ENOENT:
		r->absent++;
		break;
	case -EINVAL:
	case -EPERM:
		r->protection++;
		break;
	case -EAGAIN:
	case -ECANCELED:
		r->busy++;
		break;
	default:
		r->device++;
	}
}

void zd_migrate_count_rest(struct zd_migrate_result *r, uint64_t nr)
{
	uint64_t seen = r->moved + r->zero + r->already + r->pinned + r->shared + r->protection +
			r->busy + r->device + r->absent;

	r->absent += nr > seen ? nr - seen : 0;
}

/* Entries of [start, end), in managed ranges, that are in @state and, if @dev isn't NULL, of
 * @dev. */
static uint64_t count(const struct zd_mm *mm, uint64_t start, uint64_t end,
		      enum zd_entry_state state, const struct zd_device *dev)
{
	const struct zd_ranges *r = &mm->ranges;
	uint64_t nr = 0;

	for (size_t i = zd_ranges_first(r, start); i < r->nr && r->v[i].start < end; i++) {
		uint64_t to = r->v[i].end < end ? r->v[i].end : end;
		uint64_t a = r->v[i].start > start ? r->v[i].start : start;

		for (a = zd_table_next(&mm->table, a, to); a < to;
		     a = zd_table_next(&mm->table, a + ZD_PAGE_SIZE, to)) {
			zd_entry_t e = *zd_mm_entry(mm, a);

			nr += zd_entry_state(e) == state &&
			      (!dev || zd_server_device(mm->server, zd_entry_val(e)) == dev);
		}
	}
	return nr;
}

uint64_t zd_migrate_count_entries(const struct zd_mm *mm, uint64_t start, uint64_t end,
				  enum zd_entry_state state)
{
	return count(mm, start, end, state, NULL);
}

uint64_t zd_migrate_count_on(const struct zd_mm *mm, uint64_t start, uint64_t end,
			     const struct zd_device *dev)
{
	return count(mm, start, end, ZD_ENTRY_DEVICE, dev);
}
