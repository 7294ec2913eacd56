/* SPDX-License-Identifier: MIT */
/*
 * Events that come late.
 *
 * The kernel tells us of an unmap or a move when it is done and the address space
 * is anybody's again: by the time we read of it, another thread may have mapped
 * something in the same place, or moved it there.  Of several such threads that wait
 * to be heard the last one is heard first; and one that has been held up on its way
 * to the queue is heard whenever it gets there.  A thread that moves a mapping even
 * speaks twice: of the move, and when that has been read, of the unmapping of where
 * it was.
 *
 * But from before the change until after the reading of its last event the kernel
 * refuses to put pages in place or to move them (EAGAIN), in the whole address
 * space.  So no page goes to the wrong place meanwhile; and that nothing is late can
 * be asked for: the address space is still.
 *
 *  - A new range is managed when it is still: no event of what was mapped there
 *    before can take it away again.
 *  - A move to a place that is taken, as far as we know, waits for the event of who
 *    left it.
 *  - The unmapping that follows a move is expected, and takes nothing from what has
 *    been moved to the same place since.
 *  - A child that was forked since it was still may have been forked after a move or
 *    an unmap that we hear of now.  Its own address space tells; and so for its own
 *    children, as long as its parent isn't still.
 *
 * What is left: of two that leave the same place one after the other, the first held
 * up for as long as it takes the second to come, to be heard, to return and to leave
 * again, the order isn't known.
 *
 * A thread goes on as soon as its event has been read.  From before the reading until
 * all is processed mm->behind keeps it from looking at entries by itself (gup.c), and
 * what else it asks for is done after.
 */
#include <errno.h>

#include "core/alloc.h"
#include "mm/mm.h"
#include "mm/uffd.h"
#include "zonedev/log.h"

/* A move since it was still. */
struct zd_move {
	uint64_t from, to, len;
	bool waits;		/* for its place */
	bool heard;		/* the unmapping that follows it */
};

static void remove_move(struct zd_mm *mm, unsigned int i)
{
	mm->nr_moves--;
	for (; i < mm->nr_moves; i++)
		mm->moves[i] = mm->moves[i + 1];
}

static bool add_move(struct zd_mm *mm, const struct zd_move *m)
{
	struct zd_move *v = zd_realloc(mm->moves, (mm->nr_moves + 1) * sizeof(*v));

	if (!v) {
		zd_log(ZD_LOG_WARN, "out of memory: an unmap may come late and not be noticed");
		return false;
	}
	mm->moves = v;
	mm->moves[mm->nr_moves++] = *m;
	mm->nr_waiting += m->waits;
	return true;
}

static bool is_taken(const struct zd_mm *mm, uint64_t start, uint64_t end)
{
	size_t i = zd_ranges_first(&mm->ranges, start);

	return i < mm->ranges.nr && mm->ranges.v[i].start < end;
}

/* What @mm tells late may have happened before @child was forked. */
static bool is_young(const struct zd_mm *child, const struct zd_mm *mm)
{
	const struct zd_mm *parent = child->young_of;

	while (parent && parent != mm)
		parent = parent->young_of;
	return parent && !child->dead;
}

/* A child that has it where it is now has it from there. */
static void move_in_children(struct zd_mm *mm, const struct zd_move *m)
{
	struct zd_mm *child;

	if (!mm->has_young)
		return;
	cds_list_for_each_entry(child, &mm->server->mms, node)
		if (is_young(child, mm) &&
		    is_taken(child, m->from, m->from + m->len) &&
		    !is_taken(child, m->to, m->to + m->len) &&
		    zd_uffd_has(zd_mm_uffd(child), m->to, ZD_PAGE_SIZE) == 1 &&
		    !zd_uffd_has(zd_mm_uffd(child), m->from, ZD_PAGE_SIZE))
			zd_mm_remap(child, m->from, m->to, m->len);
}

#define ASK_PAGES	512	/* as many as zd_uffd_has() takes at a time */

/* Forget the pages of [start, end) that the address space hasn't got.  (What has no entry
 * holds nothing, and stays listed.) */
static void forget_absent(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	for (uint64_t stop; start < end; start = stop) {
		size_t i = zd_ranges_first(&mm->ranges, start);
		uint64_t a;

		if (i == mm->ranges.nr || mm->ranges.v[i].start >= end)
			return;
		start = start > mm->ranges.v[i].start ? start : mm->ranges.v[i].start;
		stop = end < mm->ranges.v[i].end ? end : mm->ranges.v[i].end;
		if (stop - start > ASK_PAGES * ZD_PAGE_SIZE)
			stop = start + ASK_PAGES * ZD_PAGE_SIZE;
		a = zd_table_next(&mm->table, start, stop);
		if (a >= stop || zd_uffd_has(zd_mm_uffd(mm), start, stop - start))
			continue;
		for (; a < stop; a = zd_table_next(&mm->table, a + ZD_PAGE_SIZE, stop))
			if (!zd_uffd_has(zd_mm_uffd(mm), a, ZD_PAGE_SIZE))
				zd_mm_forget(mm, a, a + ZD_PAGE_SIZE);
	}
}

/*
 * A child that hasn't got it was forked without it; it may have a part of it (by
 * MADV_DONTFORK, or by what it has done itself since).  One that has, has its parent's,
 * whose end it will tell itself, or something of its own.  Of one that is changing
 * nothing can be said: it keeps what it has until it ends.
 */
static void forget_in_children(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	struct zd_mm *child;

	if (!mm->has_young)
		return;
	cds_list_for_each_entry(child, &mm->server->mms, node)
		if (is_young(child, mm))
			forget_absent(child, start, end);
}

/* The end of the part of [start, end) from start on that is in @r, or isn't. */
static uint64_t next_part(const struct zd_ranges *r, uint64_t start, uint64_t end, bool *in)
{
	size_t i = zd_ranges_first(r, start);
	uint64_t stop;

	*in = i < r->nr && r->v[i].start <= start;
	stop = *in ? r->v[i].end : i < r->nr ? r->v[i].start : end;
	return stop < end ? stop : end;
}

/* Does a move wait for somebody to leave some of it? */
static bool is_awaited(const struct zd_mm *mm, uint64_t start, uint64_t end)
{
	for (unsigned int i = 0; mm->nr_waiting && i < mm->nr_moves; i++) {
		const struct zd_move *m = &mm->moves[i];

		if (m->waits && m->to < end && m->to + m->len > start)
			return true;
	}
	return false;
}

/*
 * Somebody has left [start, end), to which something was moved a moment ago: has that
 * gone, or what was there before?  What is mapped there by now may also be something
 * else again: we look again when it is still.
 */
static bool is_gone(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	if (!mm->server->host->mapped(mm, start))
		return true;
	if (!zd_ranges_add(&mm->doubtful, start, end))
		mm->server->unsettled = true;
	return false;
}

static void move(struct zd_mm *mm, const struct zd_move *m)
{
	uint64_t start = m->from, end = m->from + m->len, stop;
	bool awaited = is_awaited(mm, start, end), recent;

	for (; start < end; start = stop) {
		stop = next_part(&mm->recent, start, end, &recent);
		if (recent && !awaited && !is_gone(mm, start, stop)) {
			zd_mm_adopt(mm, start + (m->to - m->from), stop + (m->to - m->from));
			continue;
		}
		zd_mm_remap(mm, start, start + (m->to - m->from), stop - start);
		zd_ranges_remove(&mm->fresh, start, stop);
	}
	if (zd_ranges_add(&mm->fresh, m->to, m->to + m->len) ||
	    zd_ranges_add(&mm->recent, m->to, m->to + m->len))
		zd_log(ZD_LOG_WARN, "out of memory: an unmap may come late and not be noticed");
	move_in_children(mm, m);
}

/* Those that wait and whose place is free by now; or all. */
static void move_waiting(struct zd_mm *mm, bool all)
{
	for (unsigned int i = 0; mm->nr_waiting && i < mm->nr_moves; i++) {
		struct zd_move m = mm->moves[i];

		if (!m.waits || (!all && is_taken(mm, m.to, m.to + m.len)))
			continue;
		mm->moves[i].waits = false;
		mm->nr_waiting--;
		if (m.heard)
			remove_move(mm, i);
		zd_mm_forget(mm, m.to, m.to + m.len);
		move(mm, &m);
		i = -1u;	/* it may have made room for another */
	}
}

void zd_mm_moved(struct zd_mm *mm, uint64_t from, uint64_t to, uint64_t len)
{
	struct zd_move m = { .from = from, .to = to, .len = len };

	m.waits = is_taken(mm, to, to + len);
	if (m.waits)
		mm->server->unsettled = true;
	if (!add_move(mm, &m) || !m.waits)
		move(mm, &m);
	move_waiting(mm, false);
}

/* Is it the one that follows a move? */
static bool was_expected(struct zd_mm *mm, uint64_t start, uint64_t end, bool *waits)
{
	for (unsigned int i = 0; i < mm->nr_moves; i++) {
		struct zd_move *m = &mm->moves[i];

		if (m->heard || m->from != start || m->len != end - start)
			continue;
		m->heard = true;
		*waits = m->waits;
		if (!m->waits)
			remove_move(mm, i);
		return true;
	}
	return false;
}

void zd_mm_unmapped(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	bool awaited = is_awaited(mm, start, end), waits = false, kept;
	bool expected = was_expected(mm, start, end, &waits);
	uint64_t stop;

	for (; !waits && start < end; start = stop) {
		stop = next_part(expected ? &mm->fresh : &mm->recent, start, end, &kept);
		if (kept && (expected || (!awaited && !is_gone(mm, start, stop))))
			continue;
		zd_mm_forget(mm, start, stop);
		zd_ranges_remove(&mm->fresh, start, stop);
		forget_in_children(mm, start, stop);
	}
	move_waiting(mm, false);
}

/* --- still --- */

void zd_mm_all_read(struct zd_mm *mm)
{
	mm->recent.nr = 0;
}

void zd_mm_behind(struct zd_mm *mm, bool reading)
{
	/* before the read that lets a thread go on; pairs with the load in gup() */
	__atomic_store_n(&mm->behind, reading || mm->nr_waiting, __ATOMIC_SEQ_CST);
}

/* What was kept and is not mapped, or not by somebody of ours. */
static void forget_doubtful(struct zd_mm *mm)
{
	for (size_t i = 0; i < mm->doubtful.nr; i++)
		for (uint64_t a = mm->doubtful.v[i].start; a < mm->doubtful.v[i].end;
		     a += ZD_PAGE_SIZE)
			if (!zd_uffd_has(zd_mm_uffd(mm), a, ZD_PAGE_SIZE))
				zd_mm_forget(mm, a, a + ZD_PAGE_SIZE);
	mm->doubtful.nr = 0;
}

/* What comes late of @mm is no business of its children any more. */
static void children_grow_up(struct zd_mm *mm, struct zd_mm *parent)
{
	struct zd_mm *child;

	if (mm->has_young)
		cds_list_for_each_entry(child, &mm->server->mms, node)
			if (child->young_of == mm)
				child->young_of = parent;
	mm->has_young = false;
}

void zd_mm_orphan(struct zd_mm *mm)
{
	children_grow_up(mm, mm->young_of);
}

bool zd_mm_still(struct zd_mm *mm)
{
	if (zd_uffd_changing(zd_mm_uffd(mm)))
		return false;
	move_waiting(mm, true);
	forget_doubtful(mm);
	mm->nr_moves = 0;
	mm->fresh.nr = mm->recent.nr = 0;
	if (mm->young_of)
		zd_mm_still(mm->young_of);
	if (!mm->young_of)
		children_grow_up(mm, NULL);
	zd_mm_behind(mm, false);
	return true;
}

void zd_mm_forget_stale(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	while (start < end) {
		size_t i = zd_ranges_first(&mm->ranges, start);
		uint64_t stop;

		if (i == mm->ranges.nr || mm->ranges.v[i].start >= end)
			return;
		start = start > mm->ranges.v[i].start ? start : mm->ranges.v[i].start;
		stop = end < mm->ranges.v[i].end ? end : mm->ranges.v[i].end;
		if (!zd_uffd_has(zd_mm_uffd(mm), start, ZD_PAGE_SIZE))
			zd_mm_forget(mm, start, stop);
		start = stop;
	}
}

bool zd_mms_settle(struct zd_server *server)
{
	bool all = true;
	struct zd_mm *mm;

	cds_list_for_each_entry(mm, &server->mms, node)
		if (!mm->dead && (mm->nr_waiting || mm->doubtful.nr))
			all &= zd_mm_still(mm);
	return all;
}
