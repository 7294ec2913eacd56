/* SPDX-License-Identifier: MIT */
/*
 * Which memory is managed: private anonymous mappings that can be read and
 * written, of 128 KiB and more (together, where they lie side by side).  Out stay:
 * zonedev's own, [stack], thread stacks (scout.h has what they are), and small
 * mappings, which are library data and TLS.
 *
 * A mapping that appears or grows is found by looking, which the scout does; its
 * pages that are here already enter the queues in the order of their addresses.  A small
 * piece beside what is managed waits until it has grown or rests (survey.c: may_grow()).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "space/maps.h"
#include "space/uffd.h"
#include "run/run.h"
#include "zonedev/log.h"

#define RUN_PAGES	64	/* of pages found resident: an eviction's worth */
#define PATROL_BYTES	(64UL * 1024 * 1024)	/* looked at in one step, at most */
#define PATROL_PAGES	1024			/* and resident ones among them */
#define TAKE_MAX	8			/* mappings registered in one step */

/* --- registering --- */

static void queue_present(struct process *p, uint64_t start, uint64_t end)
{
	struct zd_present present[64];
	struct zd_lru *lru = &p->run->server.lru;

	for (uint64_t pos = start; pos < end;) {
		int n = zd_present_scan(p->pagemap_fd, &pos, end, present, 64, 0);

		if (n < 0)
			return;
		for (int i = 0; i < n; i++) {
			uint64_t a = present[i].start;

			while (a < present[i].end) {
				bool huge = present[i].huge && !(a & (ZD_STAGING_BYTES - 1)) &&
					    a + ZD_STAGING_BYTES <= present[i].end;
				uint64_t max = huge ? ZD_RUN_MAX : RUN_PAGES;
				uint64_t nr = (present[i].end - a) / ZD_PAGE_SIZE;

				nr = nr < max ? nr : max;
				zd_lru_add(lru, p->mm, a, nr, false);
				a += nr * ZD_PAGE_SIZE;
			}
		}
	}
}

/* Pages of a stretch that no queue has. */
static void requeue(struct process *p, const struct zd_present *present)
{
	uint64_t first = present->start, now = zd_now_ns();

	for (uint64_t a = first; a <= present->end; a += ZD_PAGE_SIZE) {
		bool lost = a < present->end && zd_entry_is_free(*zd_mm_entry(p->mm, a), now) &&
			    !scan_is_kept(p, a);

		if (lost && a - first < RUN_PAGES * ZD_PAGE_SIZE)
			continue;
		if (a > first)
			zd_lru_add(&p->run->server.lru, p->mm, first,
				   (a - first) / ZD_PAGE_SIZE, false);
		first = lost ? a : a + ZD_PAGE_SIZE;
	}
}

/*
 * Pages can be in RAM and in no queue: refused once (mlocked, say), kept for a thread that
 * has ended, or come back without a fault (written again after MADV_FREE).  While RAM is
 * short they are looked for all the time, a little in each step.  False: there is nothing
 * more in this process.
 */
bool scan_patrol(struct process *p)
{
	const struct zd_ranges *r = &p->mm->ranges;
	size_t i = zd_ranges_first(r, p->patrol);
	struct zd_present present[64];
	uint64_t end;
	int n;

	if (p->pagemap_fd < 0 || p->mm->dead || i == r->nr) {
		p->patrol = 0;
		return false;
	}
	if (p->patrol < r->v[i].start)
		p->patrol = r->v[i].start;
	end = r->v[i].end < p->patrol + PATROL_BYTES ? r->v[i].end : p->patrol + PATROL_BYTES;
	n = zd_present_scan(p->pagemap_fd, &p->patrol, end, present, 64, PATROL_PAGES);
	for (int k = 0; k < n; k++)
		requeue(p, &present[k]);
	if (n < 0)
		p->patrol = end;
	return true;
}

/* What is listed of [start, end). */
static void queue_listed(struct process *p, uint64_t start, uint64_t end)
{
	const struct zd_ranges *r = &p->mm->ranges;

	for (size_t i = zd_ranges_first(r, start); i < r->nr && r->v[i].start < end; i++)
		queue_present(p, r->v[i].start > start ? r->v[i].start : start,
			      r->v[i].end < end ? r->v[i].end : end);
}

static void manage(struct process *p, uint64_t start, uint64_t end)
{
	int rc = zd_mm_is_current(p->mm) || zd_mm_still(p->mm) ?
		 zd_mm_manage(p->mm, start, end) : -EAGAIN;

	if (!rc)
		queue_listed(p, start, end);
	else if (rc != -EINVAL && rc != -ENOMEM && rc != -ESRCH && rc != -EAGAIN)
		/* those: it has just been unmapped, or is being changed.  EBUSY: the
		 * program uses a userfaultfd itself */
		zd_log(ZD_LOG_DEBUG, "process %d: %llx-%llx stays unmanaged: %s", p->pid,
		       (unsigned long long)start, (unsigned long long)end, strerrordesc_np(-rc));
}

/* The parts of [start, end) that are not managed yet. */
static void manage_new(struct process *p, uint64_t start, uint64_t end)
{
	uint64_t gap_end;

	for (; zd_ranges_gap(&p->mm->ranges, &start, end, &gap_end); start = gap_end)
		manage(p, start, gap_end);
}

/* What of [start, end) isn't listed, and is where the kernel has been told to watch.  A
 * mapping that was made since is not: the next survey finds it. */
static void list_found(struct process *p, uint64_t start, uint64_t end)
{
	uint64_t gap_end;

	for (; zd_ranges_gap(&p->mm->ranges, &start, end, &gap_end); start = gap_end)
		if (zd_uffd_has(zd_mm_uffd(p->mm), start, gap_end - start) == 1 &&
		    !zd_mm_adopt(p->mm, start, gap_end))
			queue_present(p, start, gap_end);
}

/* What is registered there, and is none of ours; a thread that waits there goes on. */
static void leave(struct process *p, uint64_t start, uint64_t end)
{
	/* with an event still to be read the entries may be of what was moved away */
	if (!zd_uffd_unregister(zd_mm_uffd(p->mm), start, end - start) && zd_mm_still(p->mm))
		zd_mm_forget(p->mm, start, end);
}

/* Is anything but private memory there? */
static bool has_other(const struct process *p, uint64_t at, uint64_t end)
{
	struct zd_vma vma;

	for (; !zd_maps_find(p->maps_fd, at, &vma) && vma.start < end; at = vma.end)
		if (!vma.anon)
			return true;
	return false;
}

/*
 * A survey is a moment old.  What was mapped there may have made room for something
 * larger, of which a part must not be registered: the program would find two mappings
 * where it made one, and mremap() refused.  So all that it can be is registered at once,
 * with the hole around; and then what is there now is looked at.  (From the registering on
 * changes are told.)  Shared memory, which registers as well, is let go.  A thread's stack
 * that has come into the hole since is managed; its descriptor's pages are kept.
 */
static void manage_found(struct process *p, const struct found *f)
{
	uint64_t at = f->floor, end = f->ceiling;
	struct zd_vma vma;

	if (!zd_mm_is_current(p->mm) && !zd_mm_still(p->mm))
		return;
	if (zd_uffd_register(zd_mm_uffd(p->mm), at, end - at)) {
		/* nothing there just now; or what can't be watched */
		if (!has_other(p, at, end))
			return;
		at = f->start;
		end = f->end;
		manage(p, at, end);
	}
	for (; at < end && !zd_maps_find(p->maps_fd, at, &vma) && vma.start < end; at = vma.end) {
		bool cut = vma.start < at || vma.end > end;
		uint64_t from = vma.start > at ? vma.start : at;
		uint64_t to = vma.end < end ? vma.end : end;

		if (zd_vma_movable(&vma) && !vma.stack && cut)
			manage_new(p, vma.start, vma.end);
		else if (zd_vma_movable(&vma) && !vma.stack)
			list_found(p, from, to);
		else if (!vma.anon)
			leave(p, from, to);
	}
}

/* --- surveys --- */

#define REST	9	/* times as long as the last survey took */

bool scan(struct process *p)
{
	uint64_t now = zd_now_ns();

	if (!p->survey || p->sock.fd < 0 || p->dismissed_ns || now < p->survey_after_ns ||
	    scout_ask(p->run->scout, p->survey, &p->mm->ranges, p->in_family))
		return false;
	p->scan_at_ns = now;
	return true;
}

bool scan_is_kept(const struct process *p, uint64_t addr)
{
	size_t lo = 0, hi = p->nr_kept;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (p->kept[mid] < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->nr_kept && p->kept[lo] == addr;
}

/* A thread's end can't wait for them. */
static void bring_kept_home(struct process *p)
{
	for (size_t i = 0; i < p->nr_kept; i++) {
		struct zd_homing h = { .start = p->kept[i], .end = p->kept[i] + ZD_PAGE_SIZE };
		int rc;

		if (zd_ranges_find(&p->mm->ranges, p->kept[i]) &&
		    zd_entry_state(*zd_mm_entry(p->mm, p->kept[i])) == ZD_ENTRY_DEVICE)
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
	zd_free(p->kept);
	p->kept = s->unevictable;
	p->nr_kept = s->nr_unevictable;
	s->unevictable = NULL;
	s->nr_unevictable = s->cap_unevictable = 0;
	zd_free(p->found);
	p->found = s->found;
	p->nr_found = s->nr_found;
	p->next_found = 0;
	s->found = NULL;
	s->nr_found = s->cap_found = 0;
	p->survey_after_ns = now + REST * s->took_ns;
	bring_kept_home(p);
}

bool scan_step(struct process *p)
{
	if (p->survey && scout_take(p->run->scout, p->survey)) {
		take(p);
		process_answer_farewell(p);
	}
	if (p->sock.fd < 0)
		return false;
	for (int i = 0; i < TAKE_MAX && p->next_found < p->nr_found && !p->mm->dead; i++)
		manage_found(p, &p->found[p->next_found++]);
	return p->next_found < p->nr_found;
}

bool scan_unknown(struct process *p, uint64_t addr)
{
	struct zd_vma vma;

	if (!p)
		return false;
	if (p->maps_fd < 0)	/* a forked child before its hello */
		return !zd_mm_adopt(p->mm, addr, addr + ZD_PAGE_SIZE);
	/* registered already, by the kernel, when it grew; or else what faulted is
	 * gone, and this is something new in its place */
	if (zd_maps_find(p->maps_fd, addr, &vma) || vma.start > addr)
		return false;
	if (vma.anon)
		manage_new(p, vma.start, vma.end);
	else
		leave(p, vma.start, vma.end);
	return zd_ranges_find(&p->mm->ranges, addr);
}
