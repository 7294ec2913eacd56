/* SPDX-License-Identifier: MIT */
/*
 * The log of an address space's changes.
 *
 * The kernel tells of an unmap, a move or a fork when it is done and the address space
 * may be changed again.  By the time an event is read another thread may have mapped
 * something in the same place, or moved something there; and the event of a thread that
 * was held up between its change and its event is read behind events of later changes.
 * So no event says by itself what the address space looks like now.
 *
 * But from before a change until after the reading of its last event the kernel refuses
 * to put pages in place, to move or to mark them (EAGAIN), in the whole address space.
 * When the kernel doesn't refuse, the address space is *still*: the events of all changes
 * have been read.
 *
 *  - Events are logged when they are read, and nothing is done: entries, ranges and
 *    pages in flight go on naming places as those were before the first logged event.  While
 *    there is a log nothing is put in place, moved out or registered; faults wait.
 *  - Once the address space is still the log is whole, and is followed.  Changes of
 *    places that have nothing to do with each other commute.  Of those that touch the
 *    same places order.c finds the order, from the events and from more: the marks of
 *    the pages that are out, in the program's page table (uffd.h), were moved, removed
 *    and copied with their mappings by the changes themselves.
 *  - A mapping that moves sends two events: MOVE, and when that has been read, UNMAP of
 *    the place that the mapping left (the echo).  Once the address space is still both are
 *    in the log, and the echo is taken out.  A move without an echo was MREMAP_DONTUNMAP.
 *  - A forked child is born when its parent's log is followed: the child gets the entries
 *    that the parent had at that point of the order.  The child's faults wait until then.
 *  - The event of a madvise() is sent before the kernel does it.  Device pages in its
 *    range are dropped.  Where a move touches that range too, nothing is dropped: the
 *    madvise takes the marks, and a page without a mark is let go when a fault looks for
 *    it (home.c).  A madvise of a range of which no page is out isn't logged.  Its pages in
 *    RAM stay there for a while (table.h: GOING).
 *
 * A thread goes on as soon as its event has been read.  From before the reading until
 * the log is empty again mm->behind keeps other threads from looking at entries by
 * themselves (gup.c), and the commands of other threads wait.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/change_group.h"
#include "engine/changes.h"
#include "engine/entries.h"
#include "engine/fork.h"
#include "engine/mig.h"
#include "engine/order.h"
#include "space/uffd.h"
#include "zonedev/log.h"

/* Are pages of [start, end) out, or on their way? */
static bool is_out(const struct zd_mm *mm, uint64_t start, uint64_t end)
{
	size_t i = zd_ranges_first(&mm->ranges, start);

	for (; i < mm->ranges.nr && mm->ranges.v[i].start < end; i++) {
		uint64_t a = mm->ranges.v[i].start > start ? mm->ranges.v[i].start : start;
		uint64_t to = mm->ranges.v[i].end < end ? mm->ranges.v[i].end : end;

		for (a = zd_table_next(&mm->table, a, to); a < to;
		     a = zd_table_next(&mm->table, a + ZD_PAGE_SIZE, to)) {
			zd_entry_t e = *zd_mm_entry(mm, a);

			if (e & ZD_ENTRY_LOCK || (zd_entry_state(e) != ZD_ENTRY_PRESENT &&
						  zd_entry_state(e) != ZD_ENTRY_GOING))
				return true;
		}
	}
	return false;
}

/* The server's thread, while the mover is locked (event.c); doesn't block. */
void zd_mm_log_change(struct zd_mm *mm, const struct zd_change *c)
{
	if (c->type == ZD_CHANGE_REMOVE)
		zd_mm_going(mm, c->start, c->end);
	if (c->type == ZD_CHANGE_REMOVE && !mm->nr_changes && !is_out(mm, c->start, c->end))
		return;
	if (mm->nr_changes == mm->cap_changes) {
		unsigned int cap = mm->cap_changes ? mm->cap_changes * 2 : 16;
		struct zd_change *v = zd_realloc(mm->changes, cap * sizeof(*v));

		if (!v) {
			zd_log(ZD_LOG_ERR, "out of memory while following an address space: "
					   "it can't be served any more");
			mm->server->host->kill(mm);
			return;
		}
		mm->changes = v;
		mm->cap_changes = cap;
	}
	mm->changes[mm->nr_changes++] = *c;
	mm->server->changes_pending = true;
}

void zd_mm_set_behind(struct zd_mm *mm, bool reading)
{
	/* before the read() that lets a thread go on; pairs with the load in zd_mm_is_behind()
	 * (hmm/gup.h) */
	__atomic_store_n(&mm->behind, reading || mm->nr_changes, __ATOMIC_SEQ_CST);
}

/* --- following --- */

static void follow(struct zd_mm *mm, const struct zd_change *c)
{
	switch (c->type) {
	case ZD_CHANGE_MOVE:
		/* nothing is there, unless the order wasn't found */
		zd_mm_forget(mm, c->to, c->to + zd_change_len(c));
		zd_mm_remap(mm, c->start, c->to, zd_change_len(c));
		/* MREMAP_DONTUNMAP: the kernel knows whether it is mapped still */
		if (c->dontunmap && !mm->dead)
			zd_mm_list(mm, c->start, c->end);
		break;
	case ZD_CHANGE_UNMAP:
		zd_mm_forget(mm, c->start, c->end);
		break;
	case ZD_CHANGE_REMOVE:
		zd_mm_remove(mm, c->start, c->end);
		zd_mm_going(mm, c->start, c->end);
		break;
	case ZD_CHANGE_FORK:
		if (c->child)
			zd_mm_born(mm, c->child);
		break;
	}
}

/* Which device page belongs where in @d can't be known: a thread that touches one gets
 * SIGBUS, never another page's content. */
static void give_up(struct zd_mm *mm, const struct zd_doubt *d)
{
	unsigned int nr = 0;

	for (uint64_t a = zd_table_next(&mm->table, d->start, d->end); a < d->end;
	     a = zd_table_next(&mm->table, a + ZD_PAGE_SIZE, d->end)) {
		zd_entry_t *entry = zd_mm_entry(mm, a);

		if (*entry & ZD_ENTRY_LOCK)
			zd_migs_drop(mm, a, a + ZD_PAGE_SIZE, ZD_ENTRY_POISON);
		else if (zd_entry_state(*entry) == ZD_ENTRY_DEVICE)
			zd_mm_put_device(mm, entry, ZD_ENTRY_POISON);
		else
			continue;
		mm->server->stats.c.pages_poisoned++;
		nr++;
	}
	if (nr)
		zd_log(ZD_LOG_ERR,
		       "%u pages from %#llx on are lost: threads moved mappings in an "
		       "order that can't be known; touching them is SIGBUS",
		       nr, (unsigned long long)d->start);
}

/* Can @c have happened now, as far as the ranges tell? */
static bool is_possible(const struct zd_mm *mm, const struct zd_change *c)
{
	size_t i = zd_ranges_first(&mm->ranges, c->to);

	return c->type != ZD_CHANGE_MOVE || i == mm->ranges.nr ||
	       mm->ranges.v[i].start >= c->to + zd_change_len(c);
}

/* In the order of @v, but a change that isn't possible yet waits for the one that makes it
 * possible. */
static void follow_as_read(struct zd_mm *mm, unsigned int nr, uint32_t *v)
{
	while (nr) {
		const struct zd_change *c;
		unsigned int i = 0;

		while (i < nr && !is_possible(mm, &mm->changes[v[i]]))
			i++;
		if (i == nr)
			i = 0;
		c = &mm->changes[v[i]];
		nr--;
		for (; i < nr; i++)
			v[i] = v[i + 1];
		follow(mm, c);
	}
}

/* Does a move in the log touch the place of @c? */
static bool is_near_move(const struct zd_mm *mm, const struct zd_change *c)
{
	for (unsigned int i = 0; i < mm->nr_changes; i++) {
		const struct zd_change *m = &mm->changes[i];

		if (m->type == ZD_CHANGE_MOVE &&
		    ((m->to < c->end && m->to + zd_change_len(m) > c->start) ||
		     (m->start < c->end && m->end > c->start)))
			return true;
	}
	return false;
}

/* Changes among which there are moves or forks: their order matters.  False: @mm isn't
 * still any more. */
static bool follow_in_order(struct zd_mm *mm, unsigned int nr, struct zd_order *order)
{
	unsigned int kept = 0;
	int rc = 0;

	/* a madvise whose place a move touches as well comes last */
	for (unsigned int i = 0; i < nr; i++) {
		uint32_t this = order->v[i];

		if (mm->changes[this].type == ZD_CHANGE_REMOVE &&
		    is_near_move(mm, &mm->changes[this]))
			continue;
		order->v[i] = order->v[kept];
		order->v[kept++] = this;
	}
	order->nr_doubts = 0;
	if (kept > 1 && !mm->dead)
		rc = zd_order_find(mm, mm->changes, kept, order);
	if (rc == -EAGAIN)
		return false;
	if (rc)
		zd_log(ZD_LOG_DEBUG,
		       "%u changes of an address space are followed as they were "
		       "read: %s",
		       kept, strerrordesc_np(-rc));
	for (unsigned int i = 0; i < order->nr_doubts; i++)
		give_up(mm, &order->doubts[i]);
	if (rc)
		follow_as_read(mm, kept, order->v);
	else
		for (unsigned int i = 0; i < kept; i++)
			follow(mm, &mm->changes[order->v[i]]);
	for (unsigned int i = kept; i < nr; i++)
		zd_mm_going(mm, mm->changes[order->v[i]].start, mm->changes[order->v[i]].end);
	return true;
}

/* The changes of one group: @order->v has their indexes, as read.  False: not now. */
static bool follow_group(struct zd_mm *mm, unsigned int nr, struct zd_order *order)
{
	bool matters = false;

	for (unsigned int i = 0; i < nr; i++)
		matters |= mm->changes[order->v[i]].type == ZD_CHANGE_MOVE ||
			   mm->changes[order->v[i]].type == ZD_CHANGE_FORK;
	if (matters)
		return follow_in_order(mm, nr, order);
	follow_as_read(mm, nr, order->v);
	return true;
}

/*
 * The move in the first @nr changes whose echo @c may be: the last move from the place of
 * @c that has no echo yet, unless something has been moved to that place since.  Then @c may
 * as well have unmapped what was moved there, and order.c finds out.
 */
static struct zd_change *move_of(struct zd_mm *mm, unsigned int nr, const struct zd_change *c)
{
	while (c->type == ZD_CHANGE_UNMAP && nr--) {
		struct zd_change *m = &mm->changes[nr];

		if (m->type != ZD_CHANGE_MOVE)
			continue;
		if (m->dontunmap && m->start == c->start && m->end == c->end)
			return m;
		if (m->to < c->end && m->to + zd_change_len(m) > c->start)
			break;
	}
	return NULL;
}

/* Take the echoes of moves out of the log. */
static void drop_echoes(struct zd_mm *mm)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < mm->nr_changes; i++) {
		struct zd_change *m = move_of(mm, kept, &mm->changes[i]);

		if (m)
			m->dontunmap = false;
		else
			mm->changes[kept++] = mm->changes[i];
	}
	mm->nr_changes = kept;
}

/* --- group by group --- */

/* The groups that are named in @done have been followed. */
static void drop_followed(struct zd_mm *mm, const bool *done)
{
	unsigned int kept = 0;

	for (uint32_t i = 0; i < mm->nr_changes; i++)	/* while indexes are valid */
		mm->changes[i].group = zd_change_group(mm->changes, i);
	for (uint32_t i = 0; i < mm->nr_changes; i++)
		if (!done[mm->changes[i].group])
			mm->changes[kept++] = mm->changes[i];
	mm->nr_changes = kept;
}

static void follow_groups(struct zd_mm *mm, struct zd_change_touch *touch, struct zd_order *order,
			  bool *done)
{
	zd_changes_group(mm->changes, mm->nr_changes, touch);
	for (uint32_t g = 0; g < mm->nr_changes; g++) {
		unsigned int nr = 0;

		if (mm->changes[g].group != g)
			continue;
		for (uint32_t i = g; i < mm->nr_changes; i++)
			if (zd_change_group(mm->changes, i) == g)
				order->v[nr++] = i;
		done[g] = follow_group(mm, nr, order);
		if (!done[g])
			break;
	}
	drop_followed(mm, done);
}

/* Follow the log, group by group.  False: not all of it now. */
static bool follow_all(struct zd_mm *mm)
{
	struct zd_order order = { 0 };
	struct zd_change_touch *touch;
	bool *done;

	drop_echoes(mm);
	if (mm->nr_changes == 1) {	/* the common case */
		follow(mm, &mm->changes[0]);
		mm->nr_changes = 0;
		return true;
	}
	touch = zd_alloc(2 * mm->nr_changes * sizeof(*touch));
	order.v = zd_alloc(mm->nr_changes * sizeof(*order.v));
	done = zd_alloc(mm->nr_changes * sizeof(*done));
	if (touch && order.v && done)
		follow_groups(mm, touch, &order, done);
	zd_free(done);
	zd_free(order.v);
	zd_free(touch);
	return !mm->nr_changes;
}

/* --- catching up --- */

/* The server's thread; doesn't block. */
bool zd_mm_catch_up(struct zd_mm *mm)
{
	if (mm->unborn || zd_uffd_changing(zd_mm_uffd(mm)))
		return false;
	if (mm->nr_changes && !follow_all(mm))
		return false;
	zd_mm_set_behind(mm, false);
	return true;
}

/* The server's thread, between two turns; doesn't block. */
void zd_mm_end_log(struct zd_mm *mm)
{
	if (mm->nr_changes && !follow_all(mm))
		zd_log(ZD_LOG_ERR, "out of memory: children of an address space that has ended "
				   "can't be served");
	zd_free(mm->changes);
	mm->changes = NULL;
	mm->nr_changes = 0;
	mm->cap_changes = 0;
}

void zd_changes_forget_child(struct zd_mm *child)
{
	struct zd_mm *parent;

	cds_list_for_each_entry(parent, &child->server->mms, node)
		for (unsigned int i = 0; i < parent->nr_changes; i++)
			if (parent->changes[i].child == child)
				parent->changes[i].child = NULL;
}

bool zd_mms_catch_up(struct zd_server *server)
{
	bool all = true;
	struct zd_mm *mm;

	/* a child that is born meanwhile joins the list behind its parent */
	cds_list_for_each_entry(mm, &server->mms, node)
		if (!mm->dead && mm->nr_changes)
			all &= zd_mm_catch_up(mm);
	return all;
}
