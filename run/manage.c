/* SPDX-License-Identifier: MIT */
/*
 * Registering memory.
 *
 * Managed are private anonymous mappings that can be read and written, of 128 KiB and more
 * (together, where they lie side by side).  Not managed are zonedev's own, [stack], thread
 * stacks (survey_maps.c), and small mappings, which are library data and TLS.  A small piece
 * beside what is managed waits until it has grown or rests (survey_maps.c: may_grow()).
 *
 * Memory is registered with the kernel first, and listed (zd_mm_adopt()) after that.  Its pages
 * that are in RAM already enter the queues in the order of their addresses.
 */
#include <errno.h>
#include <string.h>

#include "engine/changes.h"
#include "engine/entries.h"
#include "run/manage.h"
#include "run/process.h"
#include "run/run.h"
#include "space/maps.h"
#include "space/uffd.h"
#include "zonedev/log.h"

/* Queue the pages of [start, end) that are in RAM, in the order of their addresses. */
static void queue_present(struct process *p, uint64_t start, uint64_t end)
{
	struct zd_present present[64];

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
				zd_mm_lru_add(p->mm, a, nr, false);
				a += nr * ZD_PAGE_SIZE;
			}
		}
	}
}

/* Queue the resident pages of what is listed of [start, end). */
static void queue_listed(struct process *p, uint64_t start, uint64_t end)
{
	const struct zd_ranges *r = &p->mm->ranges;

	for (size_t i = zd_ranges_first(r, start); i < r->nr && r->v[i].start < end; i++)
		queue_present(p, r->v[i].start > start ? r->v[i].start : start,
			      r->v[i].end < end ? r->v[i].end : end);
}

static void manage(struct process *p, uint64_t start, uint64_t end)
{
	int rc = zd_mm_is_current(p->mm) || zd_mm_catch_up(p->mm) ?
			 zd_mm_manage(p->mm, start, end) :
			 -EAGAIN;

	if (!rc)
		queue_listed(p, start, end);
	else if (rc != -EINVAL && rc != -ENOMEM && rc != -ESRCH && rc != -EAGAIN)
		/* the errors above: the memory has just been unmapped, or is being changed.
		 * EBUSY: the program uses a userfaultfd itself */
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

/* List what of [start, end) isn't listed and is registered with the kernel.  A mapping that was
 * made since is not registered: the next survey finds it. */
static void list_found(struct process *p, uint64_t start, uint64_t end)
{
	uint64_t gap_end;

	for (; zd_ranges_gap(&p->mm->ranges, &start, end, &gap_end); start = gap_end)
		if (zd_uffd_has(zd_mm_uffd(p->mm), start, gap_end - start) == 1 &&
		    !zd_mm_adopt(p->mm, start, gap_end))
			queue_present(p, start, gap_end);
}

/* Unregister memory that must not be managed; a thread that waits for a page of it goes on. */
static void leave(struct process *p, uint64_t start, uint64_t end)
{
	/* as long as an event is still to be read the entries may belong to pages that an
	 * mremap has moved away from here */
	if (!zd_uffd_unregister(zd_mm_uffd(p->mm), start, end - start) && zd_mm_catch_up(p->mm))
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
 * A survey is a moment old.  The mapping that it found may have made room for a larger one,
 * of which no part alone must be registered: the program would find two mappings where it
 * made one, and mremap() would refuse.  So the mapping is registered with the hole around it,
 * as far as it can have grown; and only then its present size is looked up.  (Once registered,
 * the kernel tells of changes.)  Shared memory, which registers as well, is unregistered.  A
 * thread's stack that has come into the hole since is managed; the pages of its descriptor are
 * unevictable.
 */
void manage_found(struct process *p, const struct found *f)
{
	uint64_t at = f->floor, end = f->ceiling;
	struct zd_vma vma;

	if (!zd_mm_is_current(p->mm) && !zd_mm_catch_up(p->mm))
		return;
	if (zd_uffd_register(zd_mm_uffd(p->mm), at, end - at)) {
		/* nothing is mapped there just now; or something that can't be registered */
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

bool manage_unknown(struct process *p, uint64_t addr)
{
	struct zd_vma vma;

	if (!p)
		return false;
	if (p->maps_fd < 0)	/* a forked child before its hello */
		return !zd_mm_adopt(p->mm, addr, addr + ZD_PAGE_SIZE);
	/* either the mapping that faulted has grown, and the kernel registered the new part;
	 * or it is gone, and another mapping, which is not registered, has its place */
	if (zd_maps_find(p->maps_fd, addr, &vma) || vma.start > addr)
		return false;
	if (vma.anon)
		manage_new(p, vma.start, vma.end);
	else
		leave(p, vma.start, vma.end);
	return zd_ranges_find(&p->mm->ranges, addr);
}
