/* SPDX-License-Identifier: MIT */
/* All device pages of a range come home, step by step; struct zd_homing in library.h. */
#include <errno.h>

#include "mm/library.h"
#include "mm/uffd.h"

/* The next DEVICE entry that no batch has, in the managed part of [*pos, end).
 * On the way, pages that are lost get their marks: who serves them may go. */
static bool next_device(struct zd_mm *mm, struct zd_homing *h, uint64_t *limit)
{
	const struct zd_ranges *r = &mm->ranges;

	for (size_t i = zd_ranges_first(r, h->pos); i < r->nr && r->v[i].start < h->end; i++) {
		*limit = r->v[i].end < h->end ? r->v[i].end : h->end;
		if (h->pos < r->v[i].start)
			h->pos = r->v[i].start;
		for (;; h->pos += ZD_PAGE_SIZE) {
			zd_entry_t e;

			h->pos = zd_table_next(&mm->table, h->pos, *limit);
			if (h->pos >= *limit)
				break;
			e = *zd_mm_entry(mm, h->pos);
			if (e & ZD_ENTRY_LOCK)
				h->pending = true;
			else if (zd_entry_state(e) == ZD_ENTRY_POISON)
				h->pending |= zd_mm_poison_marked(mm, h->pos) == -EAGAIN;
			else if (zd_entry_state(e) == ZD_ENTRY_DEVICE)
				return true;
		}
	}
	return false;
}

enum zd_cmd_result zd_homing_step(struct zd_mm *mm, struct zd_homing *h, int *rc)
{
	unsigned int nr = 0;
	uint64_t limit;
	int done;

	*rc = 0;
	if (mm->dead)
		return ZD_CMD_DONE;
	if (h->pos < h->start)
		h->pos = h->start;
	if (!next_device(mm, h, &limit)) {
		if (!h->pending)
			return ZD_CMD_DONE;
		/* What was in flight when we passed it may have landed since,
		 * and won't wake us again: wait only for what is so now. */
		h->pending = false;
		h->pos = h->start;
		if (!next_device(mm, h, &limit))
			return h->pending ? ZD_CMD_WAIT : ZD_CMD_DONE;
	}
	while (nr < ZD_RUN_MAX && h->pos + nr * ZD_PAGE_SIZE < limit) {
		zd_entry_t e = *zd_mm_entry(mm, h->pos + nr * ZD_PAGE_SIZE);

		if (zd_entry_state(e) != ZD_ENTRY_DEVICE || (e & ZD_ENTRY_LOCK))
			break;
		nr++;
	}
	done = zd_home(mm, h->pos, nr, false, 0);
	switch (done) {
	case -ENOBUFS:
		return ZD_CMD_WAIT;
	case -ENOMEM:
		*rc = done;
		return ZD_CMD_DONE;
	case -ESRCH:
		zd_mm_died(mm);
		return ZD_CMD_DONE;
	default:	/* EAGAIN, ENOENT: an event is about to tell */
		return ZD_CMD_AGAIN;
	}
}
