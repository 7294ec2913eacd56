/* SPDX-License-Identifier: MIT */
/* All device pages of a range come home, step by step. */
#include <errno.h>
#include <string.h>

#include "base/time.h"
#include "engine/home.h"
#include "engine/homing.h"
#include "engine/recall.h"
#include "engine/tier.h"
#include "space/uffd.h"
#include "zonedev/log.h"

#define PASSES_MAX	2

/* Is it a DEVICE entry that the homing is about? */
static bool is_wanted(const struct zd_mm *mm, const struct zd_homing *h, zd_entry_t e)
{
	return zd_entry_state(e) == ZD_ENTRY_DEVICE &&
	       (!h->dev || zd_server_device(mm->server, zd_entry_val(e)) == h->dev) &&
	       zd_entry_val(e) >= h->first;
}

/* The next entry of such a page that no batch has, in the managed part of [*pos, end).
 * On the way, lost pages that the kernel doesn't know as poisoned yet become so: after the
 * homing there may be no server for their faults. */
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
			if (e & ZD_ENTRY_LOCK && zd_recall(mm, h->pos) > 0)
				continue;
			if (e & ZD_ENTRY_LOCK || (zd_entry_state(e) == ZD_ENTRY_POISON &&
						  zd_mm_poison_marked(mm, h->pos) == -EAGAIN))
				h->pending = true;
			else if (is_wanted(mm, h, e))
				return true;
		}
	}
	return false;
}

/*
 * The whole range has been looked at.  A page that was in flight then may have landed
 * since, of which nothing will tell: look again, and wait only for pages that are in flight
 * now.  Pages that can't be read are found in each pass: after PASSES_MAX of these only
 * pages in flight count.
 */
static bool look_again(struct zd_mm *mm, struct zd_homing *h, uint64_t *limit,
		       enum zd_cmd_result *result)
{
	*result = ZD_CMD_DONE;
	if (!h->pending)
		return false;
	h->pending = false;
	h->pos = h->start;
	while (next_device(mm, h, limit)) {
		if (!h->error || h->passes < PASSES_MAX) {
			if (h->error)
				h->passes++;
			return true;
		}
		h->pos += ZD_PAGE_SIZE;
	}
	if (h->pending)
		*result = ZD_CMD_WAIT;
	return false;
}

/* The errors are the address space's: was one of them here? */
static int result_of(struct zd_mm *mm, struct zd_homing *h)
{
	uint64_t limit;

	h->pos = h->start;
	return h->error && next_device(mm, h, &limit) ? h->error : 0;
}

static unsigned int count_device(struct zd_mm *mm, const struct zd_homing *h, uint64_t limit)
{
	unsigned int nr = 0;

	while (nr < ZD_RUN_MAX && h->pos + nr * ZD_PAGE_SIZE < limit) {
		zd_entry_t e = *zd_mm_entry(mm, h->pos + nr * ZD_PAGE_SIZE);

		if (!is_wanted(mm, h, e) || (e & ZD_ENTRY_LOCK))
			break;
		nr++;
	}
	return nr;
}

static void note_errors(struct zd_mm *mm, struct zd_homing *h)
{
	if (!h->begun)
		h->errors = mm->nr_home_errors;
	h->begun = true;
	if (mm->nr_home_errors == h->errors || h->error)
		return;
	h->error = mm->home_error;
	/* logged once a homing, however many pages there are */
	zd_log(ZD_LOG_WARN, "%s: pages can't be brought home (%s): they stay there",
	       mm->home_error_dev->name, strerrordesc_np(-h->error));
}

/* Is the device of the page at @addr away, and not to be asked yet?  A homing that must leave no
 * page behind waits for it. */
static bool is_away(const struct zd_mm *mm, uint64_t addr)
{
	const struct zd_tier *tier = zd_server_tier_of(mm->server,
						       zd_entry_val(*zd_mm_entry(mm, addr)));

	return !zd_reach_may_ask(&tier->reach, zd_now_ns());
}

/* The server's thread, between two turns; doesn't block. */
enum zd_cmd_result zd_homing_step(struct zd_mm *mm, struct zd_homing *h, int *rc)
{
	enum zd_cmd_result result;
	uint64_t limit, before;
	int done;

	*rc = 0;
	if (mm->dead)
		return ZD_CMD_DONE;
	note_errors(mm, h);
	if (h->pos < h->start)
		h->pos = h->start;
	if (!next_device(mm, h, &limit) && !look_again(mm, h, &limit, &result)) {
		if (result == ZD_CMD_DONE)
			*rc = result_of(mm, h);
		return result;
	}
	if (h->last && is_away(mm, h->pos))
		return ZD_CMD_WAIT;
	before = mm->nr_device;
	done = zd_home(mm, h->pos, count_device(mm, h, limit),
		       h->last ? ZD_HOME_CLOSE : ZD_HOME_MOVE, 0, 0);
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
		if (done > 0) {	/* in flight, or failed: not again in this pass */
			h->pending |= mm->nr_device + done > before;
			h->pos += done * ZD_PAGE_SIZE;
		}
		return ZD_CMD_AGAIN;
	}
}
