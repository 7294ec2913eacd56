/* SPDX-License-Identifier: MIT */
/*
 * The mappings that should be managed and are not.
 *
 * A mapping with a guard below it, and with the head of one thread's list of robust mutexes
 * at its top and no other, is that thread's stack, and not managed; every other mapping that
 * only looks like a stack is managed.
 */
#include <errno.h>

#include "base/alloc.h"
#include "run/survey.h"
#include "space/maps.h"
#include "space/table.h"
#include "zonedev/page.h"

#define MIN_BYTES	(128 * 1024)
#define TOP_BYTES	(1024 * 1024)	/* of a stack, where descriptor and TLS are */
#define GROWS_MIN	(512 * 1024)
#define TOP		((UINT64_C(1) << ZD_VA_BITS) - ZD_PAGE_SIZE)	/* of what can be watched */

struct walk {
	struct survey *s;
	uint64_t guard_end;	/* of a PROT_NONE private mapping just before */
	uint64_t start;		/* of the mapping */
	uint64_t prev_end;	/* of the mapping below */
	struct zd_range small[MIN_BYTES / ZD_PAGE_SIZE];	/* side by side, see look_for() */
	unsigned int nr_small;
	uint64_t big_end;	/* of the last mapping that look_for() took */
	size_t head;		/* index in s->heads: the first at or above the mapping */
	struct zd_ranges growing;	/* what may have been growing last time */
};

static bool is_thread_stack(struct walk *w, const struct zd_vma *vma)
{
	const struct survey *s = w->s;
	size_t i = w->head;

	return w->guard_end == vma->start && i < s->nr_heads && s->heads[i] < vma->end &&
	       vma->end - s->heads[i] <= TOP_BYTES &&
	       (i + 1 == s->nr_heads || s->heads[i + 1] >= vma->end);
}

/* One entry for each mapping, since registering several at once could fail for one of them. */
static void add_found(struct walk *w, uint64_t start, uint64_t end)
{
	struct survey *s = w->s;

	if (s->nr_found == s->cap_found) {
		size_t cap = s->cap_found ? s->cap_found * 2 : 64;
		struct found *v = zd_realloc(s->found, cap * sizeof(*v));

		if (!v)
			return;
		s->found = v;
		s->cap_found = cap;
	}
	s->found[s->nr_found++] = (struct found){
		start,
		end,
		start == w->start && w->prev_end ? w->prev_end : start,
		end,
	};
}

/* The mapping that was found last, if it ended at @prev_end, could have grown up to @start,
 * where the next mapping is. */
static void set_ceiling(struct survey *s, uint64_t prev_end, uint64_t start)
{
	struct found *f = s->nr_found ? &s->found[s->nr_found - 1] : NULL;

	if (f && f->end == prev_end)
		f->ceiling = start < TOP ? start : TOP;
}

/*
 * May [start, end) be the end of a mapping that is managed and just growing?  A registered
 * mapping and an unregistered one don't merge: each piece that is registered while the
 * program still grows the mapping would stay a mapping of its own, for good.  So a piece that
 * is small beside its managed neighbour, and beside the limit, waits until it has grown, or
 * has not changed since the last survey.
 */
static bool may_grow(struct walk *w, uint64_t start, uint64_t end)
{
	struct survey *s = w->s;
	const struct zd_range *before = zd_ranges_find(&s->managed, start - 1);
	const struct zd_range *behind = zd_ranges_find(&s->managed, end), *was;
	uint64_t beside = before ? before->end - before->start : 0;

	if (behind && behind->end - behind->start > beside)
		beside = behind->end - behind->start;
	beside = beside / SURVEY_GROWS_SHARE < s->of.grows_max ? beside / SURVEY_GROWS_SHARE :
								 s->of.grows_max;
	if ((!before && !behind) || end - start >= (beside > GROWS_MIN ? beside : GROWS_MIN))
		return false;
	was = zd_ranges_find(&w->growing, start);
	if (was && was->end >= end)
		return false;
	return !zd_ranges_add(&s->growing, start, end);
}

/* Find what of [start, end) isn't managed. */
static void find_gaps(struct walk *w, uint64_t start, uint64_t end)
{
	uint64_t gap_end;

	for (; zd_ranges_gap(&w->s->managed, &start, end, &gap_end); start = gap_end)
		if (!may_grow(w, start, gap_end))
			add_found(w, start, gap_end);
}

/*
 * A mapping that can be managed.  Managed mappings don't merge with others, and an mremap()
 * over both, which would be one mapping without zonedev, would be refused: so small mappings
 * are managed as well where enough of them lie side by side.
 */
static void look_for(struct walk *w, const struct zd_vma *vma)
{
	uint64_t begin = w->nr_small ? w->small[0].start : vma->start;

	if (vma->end - begin < MIN_BYTES && vma->start != w->big_end) {
		w->small[w->nr_small++] = (struct zd_range){ vma->start, vma->end };
		return;
	}
	for (unsigned int i = 0; i < w->nr_small; i++)
		find_gaps(w, w->small[i].start, w->small[i].end);
	w->nr_small = 0;
	find_gaps(w, vma->start, vma->end);
	w->big_end = vma->end;
}

static bool look_at_vma(const struct zd_vma *vma, void *ctx)
{
	struct walk *w = ctx;
	struct survey *s = w->s;

	while (w->head < s->nr_heads && s->heads[w->head] < vma->start)
		w->head++;
	if (w->nr_small && w->small[w->nr_small - 1].end != vma->start)
		w->nr_small = 0;
	set_ceiling(s, w->prev_end, vma->start);
	w->start = vma->start;
	if (zd_vma_movable(vma) && (vma->end <= s->of.lo || vma->start >= s->of.hi) &&
	    !vma->stack && vma->end <= UINT64_C(1) << ZD_VA_BITS && !is_thread_stack(w, vma))
		look_for(w, vma);
	w->guard_end = vma->anon && !vma->read && !vma->write ? vma->end : 0;
	w->prev_end = vma->end;
	return true;
}

bool survey_maps(struct survey *s)
{
	struct walk w = { .s = s, .growing = s->growing };
	bool gone;

	s->growing = (struct zd_ranges){ 0 };
	s->nr_found = 0;
	gone = zd_maps_walk(s->maps_fd, look_at_vma, &w) == -ESRCH;
	zd_ranges_destroy(&w.growing);
	return !gone;
}
