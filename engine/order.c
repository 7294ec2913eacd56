/* SPDX-License-Identifier: MIT */
/*
 * In which order did changes happen that touch the same places?
 *
 * Mechanism.  What is where is a small set of pieces (space/pieces.h).  Orders are tried
 * on these, depth first, the one in which the events were read before all others.  An
 * order is possible if each move finds its destination free.  The right order is the
 * possible one that explains what the kernel shows now, after all the changes: each mark
 * in the page table is where a piece has a page that is out, each piece is registered,
 * and a forked child has the mappings that its parent had just then.  A page that is out
 * and has no mark says nothing: a mark goes without an event by a madvise whose event was
 * read long ago, or under a guard.  A place that is registered and has no piece, though a
 * change touched it, counts where nothing else decides; but not where that place and a
 * piece are one mapping: the mapping has grown, in place or by moving, and the kernel
 * sends no event for growth.
 *
 * What is certain.  Events are read as they were posted.  So the changes of one thread,
 * and of threads that wait for each other, are read in the right order; that order explains
 * everything, and is taken as it is.  Only a thread that was held up between its change
 * and its event is overtaken.  Then all orders are looked at (up to LEAVES of them), and
 * if two that put pages in different places explain the marks equally well, those pages
 * are in doubt.  Marks have no names; so two orders can explain the same marks, but only
 * where the pages of two mappings were out in the same pattern.
 *
 * What stays uncertain.  If several threads that change the same places are held up at
 * once, each between its change and its event, their events may be read in an order that
 * explains everything and isn't right, where the pages of those mappings were out in the
 * same pattern.  So may the late event of a munmap, where it is taken for the echo of a
 * MREMAP_DONTUNMAP, which has no echo.
 *
 * More changes than SEARCH_MAX are not searched; changes.c follows them as they were
 * read, a move when its place is free.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/order.h"
#include "space/maps.h"
#include "space/pieces.h"
#include "space/uffd.h"
#include "zonedev/log.h"

#define SEARCH_MAX	10
#define LEAVES		256
#define NODES		4096

/* How much of what the kernel shows an order doesn't explain. */
struct verdict {
	uint64_t wrong;		/* pages */
	uint64_t unlisted;	/* places that are registered, and that no piece accounts for */
};

struct search {
	struct zd_mm *mm;
	const struct zd_change *changes;
	unsigned int nr;
	const uint32_t *read;	/* indexes as they were read */
	struct zd_pieces at[SEARCH_MAX + 1];	/* after so many changes */
	struct zd_pieces of_child[SEARCH_MAX];	/* by place in `read`: FORK's copy */
	uint32_t order[SEARCH_MAX];	/* places in `read` */
	bool used[SEARCH_MAX];
	unsigned int leaves, nodes;	/* that may still be looked at */
	bool found, certain;
	bool as_read;			/* the best order is that of reading: no page is in doubt */
	struct verdict verdict;		/* on the best order */
	uint32_t best[SEARCH_MAX];
	struct zd_pieces best_end;
	struct zd_pieces touched;
	struct zd_order *result;
};

/* --- the changes, done to pieces --- */

/* False: change @i can't have happened now, or the set of pieces is full. */
static bool apply(struct search *f, struct zd_pieces *s, uint32_t i)
{
	const struct zd_change *c = &f->changes[f->read[i]];

	if (c->type == ZD_CHANGE_REMOVE)
		return true;
	if (c->type == ZD_CHANGE_FORK) {
		f->of_child[i] = *s;
		return true;
	}
	if (!zd_pieces_cut(s, c->start) || !zd_pieces_cut(s, c->end))
		return false;
	if (c->type == ZD_CHANGE_MOVE)
		return !zd_pieces_overlap(s, c->to, c->to + zd_change_len(c)) &&
		       zd_pieces_move(s, c->start, c->end, c->to) &&
		       (!c->dontunmap || zd_pieces_fill(s, c->start, c->end, false));
	zd_pieces_unmap(s, c->start, c->end);
	return true;
}

/* --- what the kernel shows --- */

static bool may_have_mark(zd_entry_t e)
{
	return e & ZD_ENTRY_LOCK || zd_entry_state(e) == ZD_ENTRY_DEVICE ||
	       zd_entry_state(e) == ZD_ENTRY_REMOVED;
}

static void judge_marks(const struct zd_mm *mm, const struct zd_piece *p, struct verdict *v)
{
	uint64_t pos = p->start;
	struct zd_present mark[64];
	bool known = p->was != ZD_PIECE_NEW;

	while (pos < p->end) {
		int n = zd_marks_scan(mm->pagemap_fd, &pos, p->end, mark, 64);

		if (n < 0)
			return;
		for (int i = 0; i < n; i++)
			for (uint64_t a = mark[i].start; a < mark[i].end; a += ZD_PAGE_SIZE) {
				zd_entry_t e = known ? *zd_mm_entry(mm, p->was + (a - p->start)) :
						       0;

				if (!may_have_mark(e))
					v->wrong++;
			}
	}
}

/* Is the page of @addr, if it is one of the piece's, registered? */
static void judge_page(const struct zd_mm *mm, const struct zd_piece *p, uint64_t addr,
		       struct verdict *v)
{
	if (addr >= p->start && addr < p->end && !zd_uffd_has(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE))
		v->wrong++;
}

/* Is all of the piece registered?  A part that isn't begins or ends where a change did. */
static void judge_place(const struct search *f, const struct zd_piece *p, struct verdict *v)
{
	judge_page(f->mm, p, p->start, v);
	for (unsigned int k = 0; k < f->nr; k++) {
		const struct zd_change *c = &f->changes[f->read[k]];

		if (c->type == ZD_CHANGE_FORK)
			continue;
		judge_page(f->mm, p, c->start, v);
		judge_page(f->mm, p, c->end, v);
		if (c->type != ZD_CHANGE_MOVE)
			continue;
		judge_page(f->mm, p, c->to, v);
		judge_page(f->mm, p, c->to + zd_change_len(c), v);
	}
}

/* Does the child have a mapping that its parent hadn't?  (The reverse says nothing: there
 * is MADV_DONTFORK.)  Of a child whose address space is being changed nothing can be seen. */
static uint64_t judge_in_child(const struct zd_mm *child, const struct zd_pieces *s, uint64_t start,
			       uint64_t end)
{
	uint64_t at[2] = { start, end - ZD_PAGE_SIZE }, wrong = 0;

	for (unsigned int i = 0; i < 2; i++)
		if (!zd_pieces_overlap(s, at[i], at[i] + ZD_PAGE_SIZE) &&
		    zd_uffd_has(zd_mm_uffd(child), at[i], ZD_PAGE_SIZE) == 1)
			wrong++;
	return wrong;
}

static uint64_t wrong_in_child(const struct search *f, uint32_t i)
{
	const struct zd_mm *child = f->changes[f->read[i]].child;
	const struct zd_pieces *s = &f->of_child[i];
	uint64_t wrong = 0;

	for (unsigned int k = 0; child && k < f->nr; k++) {
		const struct zd_change *c = &f->changes[f->read[k]];

		if (c->type == ZD_CHANGE_FORK)
			continue;
		wrong += judge_in_child(child, s, c->start, c->end);
		if (c->type == ZD_CHANGE_MOVE)
			wrong += judge_in_child(child, s, c->to, c->to + zd_change_len(c));
	}
	return wrong;
}

/* The places that the changes touch, but for those that have a piece: @s gets one. */
static bool fill_touched(const struct search *f, struct zd_pieces *s)
{
	bool ok = true;

	for (unsigned int k = 0; ok && k < f->nr; k++) {
		const struct zd_change *c = &f->changes[f->read[k]];

		if (c->type == ZD_CHANGE_FORK)
			continue;
		ok = zd_pieces_fill(s, c->start, c->end, false);
		if (ok && c->type == ZD_CHANGE_MOVE)
			ok = zd_pieces_fill(s, c->to, c->to + zd_change_len(c), false);
	}
	return ok;
}

/* Is the page of @addr registered, and no piece of @s accounts for that? */
static bool is_unlisted(const struct search *f, const struct zd_pieces *s, uint64_t addr)
{
	int uffd = zd_mm_uffd(f->mm);
	uint64_t below = 0;

	if (zd_uffd_has(uffd, addr, ZD_PAGE_SIZE) != 1)
		return false;
	for (unsigned int i = 0; i < s->nr; i++)
		if (s->v[i].end <= addr && s->v[i].end > below)
			below = s->v[i].end;
	/* one mapping with the piece below?  (The kernel says no if they are several.) */
	return !below ||
	       zd_uffd_has(uffd, below - ZD_PAGE_SIZE, addr + 2 * ZD_PAGE_SIZE - below) != 1;
}

static struct verdict judge(struct search *f, const struct zd_pieces *end)
{
	struct verdict v = { 0 };

	for (unsigned int i = 0; i < end->nr; i++)
		judge_place(f, &end->v[i], &v);
	/* a mark in a place without a piece is wrong as well */
	f->touched = *end;
	if (!fill_touched(f, &f->touched))
		f->touched = *end;
	for (unsigned int i = 0; f->mm->pagemap_fd >= 0 && i < f->touched.nr; i++)
		judge_marks(f->mm, &f->touched.v[i], &v);
	for (unsigned int i = end->nr; i < f->touched.nr; i++)
		if (is_unlisted(f, end, f->touched.v[i].start))
			v.unlisted++;
	for (uint32_t i = 0; i < f->nr; i++)
		if (f->changes[f->read[i]].type == ZD_CHANGE_FORK)
			v.wrong += wrong_in_child(f, i);
	return v;
}

/* --- the search --- */

static bool as_read(const struct search *f)
{
	for (uint32_t i = 0; i < f->nr; i++)
		if (f->order[i] != i)
			return false;
	return true;
}

/* Less than 0: @a explains more. */
static int compare(const struct verdict *a, const struct verdict *b)
{
	if (a->wrong != b->wrong)
		return a->wrong < b->wrong ? -1 : 1;
	if (a->unlisted != b->unlisted)
		return a->unlisted < b->unlisted ? -1 : 1;
	return 0;
}

/* @other explains as much as the best: pages that @other has elsewhere are in doubt. */
static void note_doubts(struct search *f, const struct zd_pieces *other)
{
	struct zd_order *order = f->result;

	for (unsigned int i = 0; i < f->best_end.nr; i++) {
		const struct zd_piece *p = &f->best_end.v[i];
		bool same = p->was == ZD_PIECE_NEW;

		for (unsigned int k = 0; k < other->nr && !same; k++)
			same = other->v[k].start <= p->start && other->v[k].end >= p->end &&
			       other->v[k].was != ZD_PIECE_NEW &&
			       other->v[k].was + (p->start - other->v[k].start) == p->was;
		if (!same && order->nr_doubts < ZD_DOUBT_MAX)
			order->doubts[order->nr_doubts++] =
				(struct zd_doubt){ p->was, p->was + (p->end - p->start) };
	}
}

static void leaf(struct search *f)
{
	struct zd_pieces *end = &f->at[f->nr];
	struct verdict v;
	int c = -1;

	f->leaves--;
	zd_pieces_normalize(end);
	v = judge(f, end);
	if (f->found)
		c = compare(&v, &f->verdict);
	if (!c && !zd_pieces_equal(end, &f->best_end))
		note_doubts(f, end);
	if (c >= 0)
		return;
	f->found = true;
	f->result->nr_doubts = 0;
	f->verdict = v;
	memcpy(f->best, f->order, sizeof(f->best));
	f->best_end = *end;
	f->as_read = as_read(f);
	f->certain = f->as_read && !v.wrong && !v.unlisted;
}

static void search(struct search *f, unsigned int depth)
{
	if (depth == f->nr) {
		leaf(f);
		return;
	}
	for (uint32_t i = 0; i < f->nr && f->leaves && !f->certain; i++) {
		if (f->used[i] || !f->nodes)
			continue;
		f->nodes--;
		f->at[depth + 1] = f->at[depth];
		if (!apply(f, &f->at[depth + 1], i))
			continue;
		f->used[i] = true;
		f->order[depth] = i;
		search(f, depth + 1);
		f->used[i] = false;
	}
}

/* Pieces for what was managed of [start, end) before the first change. */
static bool begin_at(struct search *f, uint64_t start, uint64_t end)
{
	const struct zd_ranges *r = &f->mm->ranges;

	for (size_t i = zd_ranges_first(r, start); i < r->nr && r->v[i].start < end; i++)
		if (!zd_pieces_fill(&f->at[0], r->v[i].start > start ? r->v[i].start : start,
				    r->v[i].end < end ? r->v[i].end : end, true))
			return false;
	return true;
}

static bool begin(struct search *f)
{
	bool ok = true;

	for (unsigned int k = 0; ok && k < f->nr; k++) {
		const struct zd_change *c = &f->changes[f->read[k]];

		if (c->type == ZD_CHANGE_FORK)
			continue;
		ok = begin_at(f, c->start, c->end);
		if (ok && c->type == ZD_CHANGE_MOVE)
			ok = begin_at(f, c->to, c->to + zd_change_len(c));
	}
	return ok;
}

/* The server's thread; doesn't block.  Up to NODES steps, and an ioctl a page judged. */
int zd_order_find(struct zd_mm *mm, const struct zd_change *changes, unsigned int nr,
		  struct zd_order *order)
{
	uint32_t read[SEARCH_MAX];
	struct search *f;
	int rc = -ENOENT;

	if (nr > SEARCH_MAX)
		return -E2BIG;
	f = zd_alloc(sizeof(*f));
	if (!f)
		return -ENOMEM;
	memcpy(read, order->v, nr * sizeof(read[0]));
	f->mm = mm;
	f->changes = changes;
	f->nr = nr;
	f->read = read;
	f->result = order;
	f->leaves = LEAVES;
	f->nodes = NODES;
	if (begin(f))
		search(f, 0);
	if (f->found && zd_uffd_changing(zd_mm_uffd(mm))) {
		rc = -EAGAIN;	/* the kernel's marks may be newer than the events */
	} else if (f->found) {
		rc = 0;
		for (unsigned int i = 0; i < nr; i++)
			order->v[i] = read[f->best[i]];
		if (f->as_read)
			order->nr_doubts = 0;
	}
	zd_free(f);
	return rc;
}
