/* SPDX-License-Identifier: MIT */
/*
 * Which memory is managed: private anonymous mappings that can be read and
 * written, of MIN_BYTES and more.  Out stay: zonedev's own, [stack], thread
 * stacks (the kernel writes to them at a thread's very end, when it can't wait
 * for a page any more), and small mappings, which are library data and TLS.
 *
 * A mapping that appears or grows is found by looking; its pages that are here
 * already enter the queues in the order of their addresses.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "mm/maps.h"
#include "mm/uffd.h"
#include "tools/run/run.h"
#include "zonedev/log.h"

#define MIN_BYTES	(128 * 1024)
#define RUN_PAGES	64	/* of pages found resident: an eviction's worth */
#define ARENA_MASK	(64UL * 1024 * 1024 - 1)	/* malloc's arenas start here */

struct scan {
	struct process *p;
	uint64_t prev_end;	/* of a PROT_NONE private mapping just before */
	uint64_t find;		/* scan_unknown() */
	bool found;
};

/* --- thread stacks --- */

static bool known_stack(const struct process *p, uint64_t start)
{
	for (unsigned int i = 0; i < p->nr_stacks; i++)
		if (p->stacks[i] == start)
			return true;
	return false;
}

static void remember_stack(struct process *p, uint64_t start)
{
	if (p->nr_stacks == p->cap_stacks) {
		unsigned int cap = p->cap_stacks ? p->cap_stacks * 2 : 64;
		uint64_t *v = zd_realloc(p->stacks, cap * sizeof(*v));

		if (!v)
			return;
		p->stacks = v;
		p->cap_stacks = cap;
	}
	p->stacks[p->nr_stacks++] = start;
}

/* Does smaps say "nh" of the mapping that starts at @start?  mmap(MAP_STACK)
 * sets it, and hardly anything else does. */
static bool is_nohuge(struct process *p, uint64_t start)
{
	char buf[16384], *line, *nl, want[32];
	size_t have = 0;
	bool here = false;
	ssize_t n;

	snprintf(want, sizeof(want), "%08llx-", (unsigned long long)start);
	if (lseek(p->smaps_fd, 0, SEEK_SET) < 0)
		return false;
	while ((n = read(p->smaps_fd, buf + have, sizeof(buf) - 1 - have)) > 0) {
		have += n;
		buf[have] = 0;
		for (line = buf; (nl = strchr(line, '\n')); line = nl + 1) {
			*nl = 0;
			if (!strncmp(line, want, strlen(want)))
				here = true;
			else if (here && !strncmp(line, "VmFlags:", 8))
				return strstr(line, " nh");
		}
		have = strlen(line);
		memmove(buf, line, have);
	}
	return false;
}

/* A thread's stack: a guard below it, and made with MAP_STACK. */
static bool is_thread_stack(const struct scan *s, const struct zd_vma *vma)
{
	if (known_stack(s->p, vma->start))
		return true;
	if (s->prev_end != vma->start || !(vma->start & ARENA_MASK))
		return false;
	if (!is_nohuge(s->p, vma->start))
		return false;
	remember_stack(s->p, vma->start);
	return true;
}

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
		bool lost = a < present->end && zd_entry_is_free(*zd_mm_entry(p->mm, a), now);

		if (lost && a - first < RUN_PAGES * ZD_PAGE_SIZE)
			continue;
		if (a > first)
			zd_lru_add(&p->run->server.lru, p->mm, first,
				   (a - first) / ZD_PAGE_SIZE, false);
		first = lost ? a : a + ZD_PAGE_SIZE;
	}
}

/*
 * Pages can be in RAM and in no queue: refused once (mlocked, say), or come back
 * without a fault (written again after MADV_FREE).  When RAM is short and the
 * queues don't account for it, they get another chance.
 */
void scan_requeue(struct process *p)
{
	struct zd_present present[64];

	if (p->pagemap_fd < 0)
		return;
	for (size_t i = 0; i < p->mm->ranges.nr; i++) {
		uint64_t pos = p->mm->ranges.v[i].start, end = p->mm->ranges.v[i].end;

		while (pos < end) {
			int n = zd_present_scan(p->pagemap_fd, &pos, end, present, 64, 0);

			if (n < 0)
				return;
			for (int k = 0; k < n; k++)
				requeue(p, &present[k]);
		}
	}
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
	const struct zd_ranges *r = &p->mm->ranges;

	while (start < end) {
		size_t i = zd_ranges_first(r, start);
		uint64_t gap_end = i < r->nr && r->v[i].start < end ? r->v[i].start : end;

		if (start < gap_end)
			manage(p, start, gap_end);
		/* whatever manage() made of it, go on behind the gap */
		i = zd_ranges_first(r, gap_end);
		start = i < r->nr && r->v[i].start <= gap_end && r->v[i].end > gap_end ?
			r->v[i].end : gap_end > start ? gap_end : start + ZD_PAGE_SIZE;
	}
}

static bool scan_vma(const struct zd_vma *vma, void *ctx)
{
	struct scan *s = ctx;
	struct process *p = s->p;
	bool guard = vma->anon && !vma->read && !vma->write;

	if (zd_vma_movable(vma) && vma->end - vma->start >= MIN_BYTES &&
	    (vma->end <= p->lo || vma->start >= p->hi) && !vma->stack &&
	    vma->end <= UINT64_C(1) << ZD_VA_BITS && !is_thread_stack(s, vma))
		manage_new(p, vma->start, vma->end);
	s->prev_end = guard ? vma->end : 0;
	return !p->mm->dead;
}

void scan(struct process *p)
{
	struct scan s = { .p = p };

	p->scan_at_ns = zd_now_ns();
	if (p->maps_fd < 0 || p->sock.fd < 0)
		return;
	if (zd_maps_walk(p->maps_fd, scan_vma, &s) == -ESRCH)
		p->lost_ns = p->lost_ns ? p->lost_ns : zd_now_ns();
}

static bool find_vma(const struct zd_vma *vma, void *ctx)
{
	struct scan *s = ctx;

	if (vma->end <= s->find)
		return true;
	if (vma->start <= s->find) {
		/* registered already, by the kernel, when it grew; or else what
		 * faulted is gone, and this is something new in its place */
		manage_new(s->p, vma->start, vma->end);
		s->found = zd_ranges_find(&s->p->mm->ranges, s->find);
	}
	return false;
}

bool scan_unknown(struct process *p, uint64_t addr)
{
	struct scan s = { .p = p, .find = addr };

	if (!p)
		return false;
	if (p->maps_fd < 0)	/* a forked child before its hello */
		return !zd_mm_adopt(p->mm, addr, addr + ZD_PAGE_SIZE);
	zd_maps_walk(p->maps_fd, find_vma, &s);
	return s.found;
}
