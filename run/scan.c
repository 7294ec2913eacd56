/* SPDX-License-Identifier: MIT */
/*
 * From a survey's findings to managed memory.
 *
 * A mapping that appears or grows is found by looking, which the scout does (survey.h); its
 * findings are taken here, and registered a few at a time, so that faults are served between.
 */
#include <errno.h>

#include "base/alloc.h"
#include "base/time.h"
#include "run/agent_end.h"
#include "run/manage.h"
#include "run/process.h"
#include "run/run.h"
#include "run/scan.h"
#include "run/scout.h"

#define TAKE_MAX	8	/* mappings registered in one step */
#define REST		9	/* times as long as the last survey took, before the next */

bool scan(struct process *p)
{
	uint64_t now = zd_now_ns();

	if (!p->survey || p->sock.fd < 0 || p->dismissed_ns || now < p->survey_after_ns ||
	    scout_ask(p->run->scout, p->survey, &p->mm->ranges, p->in_family))
		return false;
	p->scan_at_ns = now;
	return true;
}

bool scan_is_unevictable(const struct process *p, uint64_t addr)
{
	size_t lo = 0, hi = p->nr_unevictable;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (p->unevictable[mid] < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->nr_unevictable && p->unevictable[lo] == addr;
}

/* The unevictable pages that are away: a thread that ends can't wait for them. */
static void bring_unevictable_home(struct process *p)
{
	for (size_t i = 0; i < p->nr_unevictable; i++) {
		struct zd_homing h = { .start = p->unevictable[i],
				       .end = p->unevictable[i] + ZD_PAGE_SIZE };
		int rc;

		if (zd_ranges_find(&p->mm->ranges, p->unevictable[i]) &&
		    zd_entry_state(*zd_mm_entry(p->mm, p->unevictable[i])) == ZD_ENTRY_DEVICE)
			zd_homing_step(p->mm, &h, &rc);
	}
}

static void take(struct process *p)
{
	struct survey *s = p->survey;
	uint64_t now = zd_now_ns();

	if (s->gone)
		p->lost_ns = p->lost_ns ? p->lost_ns : now;
	if (s->anon) {
		p->pss = s->pss;
		p->anon_at_pss = s->anon;
		p->pss_at_ns = now;
	}
	zd_free(p->unevictable);
	p->unevictable = s->unevictable;
	p->nr_unevictable = s->nr_unevictable;
	s->unevictable = NULL;
	s->nr_unevictable = s->cap_unevictable = 0;
	zd_free(p->found);
	p->found = s->found;
	p->nr_found = s->nr_found;
	p->next_found = 0;
	s->found = NULL;
	s->nr_found = s->cap_found = 0;
	p->survey_after_ns = now + REST * s->took_ns;
	bring_unevictable_home(p);
}

bool scan_step(struct process *p)
{
	if (p->survey && scout_take(p->run->scout, p->survey)) {
		take(p);
		agent_answer_farewell(p);
	}
	if (p->sock.fd < 0)
		return false;
	for (int i = 0; i < TAKE_MAX && p->next_found < p->nr_found && !p->mm->dead; i++)
		manage_found(p, &p->found[p->next_found++]);
	return p->next_found < p->nr_found;
}
