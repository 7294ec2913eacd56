// SPDX-License-Identifier: MIT
/* fuzz_mm: mremap. */
#include "tests/stress/fuzz_mm.h"

/* The kernel's answer, for a change of @r.nr pages to @nr. */
static char *remap(struct worker *w, struct run r, unsigned int nr, int flags, char *to,
		   const char *what)
{
	char *from = at(r.z, r.first);
	char *got = mremap(from, bytes(r), nr * PAGE, flags, to);
	int rc = got == MAP_FAILED ? errno : 0;

	note(w, what, from, rc ? to : got, nr < r.nr ? bytes(r) : nr * PAGE, rc);
	errno = rc;
	return got;
}

/* The copies follow; what is at @to so far is gone.  @from stays mapped, or not. */
static void carry(struct worker *w, struct run from, struct run to, bool keep)
{
	struct page *tmp = w->moving;
	uint32_t vma = one_vma(w, from) ? new_vma(w) : 0;
	unsigned int i;

	for (i = 0; i < from.nr; i++)
		tmp[i] = *pg(w, from.z, from.first + i);
	for (i = 0; keep && i < from.nr; i++) {
		drop(pg(w, from.z, from.first + i));
		pg(w, from.z, from.first + i)->flags &= ~P_GUARD;
	}
	if (!keep)
		forget(w, from);
	for (i = 0; i < to.nr; i++) {
		struct page *p = pg(w, to.z, to.first + i);

		*p = tmp[i < from.nr ? i : from.nr - 1];
		p->vma = vma;
		if (i < from.nr)
			continue;
		drop(p);
		p->flags &= ~P_GUARD;
	}
	if (keep)
		anchor(w, from);
}

static bool overlap(struct run a, struct run b)
{
	return a.z == b.z && a.first < b.first + b.nr && b.first < a.first + a.nr;
}

/* EFAULT where a part of a mapping is watched (ZD_ERRNO=0)?  By then the kernel may have
 * made room, and moved a part: both places are mapped anew. */
static bool is_refused(struct worker *w, char *got, struct run r, struct run to)
{
	if (got != MAP_FAILED || errno != EFAULT || !conf.any_errno)
		return false;
	map_at(w, r, PROT_READ | PROT_WRITE, 0, true);
	if (to.z)
		map_at(w, to, PROT_READ | PROT_WRITE, 0, true);
	return true;
}

/* Shortens the run to what is one mapping for sure. */
static void cut_to_one_vma(struct worker *w, struct run *r)
{
	while (r->nr && !one_vma(w, *r))
		r->nr--;
}

/* Where a move goes to: the arena, over whatever is there, or a mapping made for it. */
static bool destination(struct worker *w, const struct op *op, unsigned int nr, struct run *to)
{
	struct zone *z;

	if (op->a >> 8 & 3 || nr > NATURAL) {
		*to = place(w, op->d, nr);
		return true;
	}
	z = free_zone(w);
	if (!z)
		return false;
	adopt(z, map(w, NULL, nr * PAGE, PROT_READ | PROT_WRITE, 0), nr);
	*to = (struct run){ z, 0, nr };
	fresh(w, *to, P_RW);
	if (op->a >> 10 & 1)
		for (unsigned int i = 0; i < nr; i++)
			write_page(w, z, i, ALL_CHUNKS);
	return true;
}

/* With MREMAP_FIXED, to another size or not.  Is the mapping there now? */
static bool move(struct worker *w, struct run r, struct run to)
{
	char *got = remap(w, r, to.nr, MREMAP_MAYMOVE | MREMAP_FIXED, at(to.z, to.first),
			  "mremap fixed");

	if (overlap(r, to)) {
		expect_result(w, "mremap onto itself", at(r.z, r.first), errno, EINVAL);
		return false;
	}
	if (is_refused(w, got, r, to))
		return false;
	if (got != at(to.z, to.first))
		broken(w, at(r.z, r.first), "mremap of %u pages (%s) to %u at %p: %p, %m", r.nr,
		       one_vma(w, r) ? "one mapping" : "several mappings", to.nr,
		       at(to.z, to.first), got);
	if (to.nr < r.nr) {
		forget(w, (struct run){ r.z, r.first + to.nr, r.nr - to.nr });
		r.nr = to.nr;
	}
	carry(w, r, to, false);
	return true;
}

/* As long as it was, longer or shorter; several mappings at once. */
void op_move(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c), to;
	unsigned int nr;

	if (!r.nr || r.z->kind == Z_HEAP)
		return;
	nr = op->a >> 12 & 3 ? r.nr : op->d % (r.nr * 2) + 1;
	if (nr > ARENA)
		nr = ARENA;
	if (nr != r.nr || !conf.many_vmas) {
		cut_to_one_vma(w, &r);
		nr = nr > 2 * r.nr ? 2 * r.nr : nr;
	}
	if (r.nr && destination(w, op, nr, &to))
		move(w, r, to);
}

static void shrink(struct worker *w, struct run r, unsigned int nr, int flags)
{
	char *got = remap(w, r, nr, flags, NULL, "mremap shrink");

	if (is_refused(w, got, r, (struct run){ 0 }))
		return;
	if (got != at(r.z, r.first))
		broken(w, at(r.z, r.first), "mremap of %u pages to %u: %p, %m", r.nr, nr, got);
	forget(w, (struct run){ r.z, r.first + nr, r.nr - nr });
}

/* The mapping has grown where it is. */
static void grown(struct worker *w, struct run r, unsigned int nr)
{
	struct page like = *pg(w, r.z, r.first);

	if (r.first + nr > r.z->nr)
		r.z->nr = r.first + nr;
	for (unsigned int i = r.first + r.nr; i < r.first + nr; i++) {
		struct page *p = pg(w, r.z, i);

		*p = like;
		drop(p);
		p->flags &= ~P_GUARD;
	}
}

/* Is there room behind @r: 1 yes, 0 no, -1 other threads may have it? */
static int room(struct worker *w, struct run r, unsigned int nr)
{
	for (unsigned int i = r.first + r.nr; i < r.first + nr && i < r.z->nr; i++)
		if (pg(w, r.z, i)->flags & P_MAPPED)
			return 0;
	return r.z->kind == Z_ARENA ? 1 : -1;
}

static void grow(struct worker *w, struct run r, unsigned int nr, int flags)
{
	struct zone *z = free_zone(w);
	int can = room(w, r, nr), rc;
	char *got;

	/* a move needs a place to be remembered in */
	if (flags && (!z || nr > NATURAL))
		return;
	got = remap(w, r, nr, flags, NULL, "mremap grow");
	rc = errno;
	if (is_refused(w, got, r, (struct run){ 0 }))
		return;
	if (got == at(r.z, r.first) && can) {
		grown(w, r, nr);
	} else if (got == MAP_FAILED && !flags && can != 1) {
		expect_result(w, "mremap without room", at(r.z, r.first), rc, ENOMEM);
	} else if (got == MAP_FAILED || got == at(r.z, r.first)) {
		errno = rc;
		broken(w, at(r.z, r.first), "mremap of %u pages to %u, flags %d, room %d: %p, %m",
		       r.nr, nr, flags, can, got);
	} else {
		adopt(z, got, nr);
		carry(w, r, (struct run){ z, 0, nr }, false);
	}
}

void op_resize(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c);
	unsigned int max, nr;

	if (!r.nr || r.z->kind == Z_HEAP)
		return;
	if (op->a >> 16 & 1) {
		if (r.nr > 1)
			shrink(w, r, op->d % (r.nr - 1) + 1, op->a >> 17 & 1);
		return;
	}
	cut_to_one_vma(w, &r);
	if (!r.nr)
		return;
	max = (r.z->kind == Z_ARENA ? ARENA : NATURAL) - r.first;
	nr = r.nr + op->d % 64 + 1;
	if (nr <= max)
		grow(w, r, nr, op->a >> 17 & 1 ? MREMAP_MAYMOVE : 0);
}

static bool dontunmap(struct worker *w, struct run r, struct run to, int fixed)
{
	char *want = fixed ? at(to.z, to.first) : NULL;
	char *got = remap(w, r, r.nr, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | fixed, want,
			  "mremap dontunmap");

	if (is_refused(w, got, r, fixed ? to : (struct run){ 0 }))
		return false;
	if (got == MAP_FAILED || (fixed && got != want))
		broken(w, at(r.z, r.first), "mremap(DONTUNMAP) of %u pages: %p, %m", r.nr, got);
	if (!fixed)
		adopt(to.z, got, r.nr);
	carry(w, r, to, true);
	return true;
}

void op_dontunmap(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c), to;

	if (r.nr > NATURAL)
		r.nr = NATURAL;
	cut_to_one_vma(w, &r);
	/* a locked mapping is unlocked whole: let it be */
	if (!conf.dontunmap || !r.nr || r.z->kind == Z_HEAP || !all(w, r, P_LOCKED, 0))
		return;
	if (op->a >> 9 & 1) {
		to = place(w, op->d, r.nr);
		if (!overlap(r, to))
			dontunmap(w, r, to, MREMAP_FIXED);
		return;
	}
	to = (struct run){ free_zone(w), 0, r.nr };
	if (to.z)
		dontunmap(w, r, to, 0);
}

/* Where a chain goes on: just behind or before, where it came from, or anywhere. */
static struct run near(struct worker *w, struct run r, struct run was, unsigned int nr,
		       uint32_t how)
{
	switch (how % 4) {
	case 0:
		return place(w, r.first + r.nr, nr);
	case 1:
		return place(w, r.first < nr ? 0 : r.first - nr, nr);
	case 2:
		return place(w, was.first + (how >> 4) % (was.nr + 1), nr);
	default:
		return place(w, how >> 4, nr);
	}
}

/* Change upon change of the same pages, with no look in between: what has moved out
 * must follow through all of them. */
void op_chain(struct worker *w, const struct op *op)
{
	struct run r = { &w->zone[0], op->b % ARENA, 0 }, was, to;
	uint64_t rng = (uint64_t)op->c << 32 | op->d | 1;
	bool fine = true;

	while (r.first + r.nr < ARENA && r.nr < op->a % 300 + 8 &&
	       pg(w, r.z, r.first + r.nr)->flags & P_MAPPED)
		r.nr++;
	cut_to_one_vma(w, &r);
	was = r;
	for (unsigned int i = 0; fine && r.nr > 1 && i < op->a / 512 % 6 + 2; i++) {
		uint32_t how = rnd(&rng) >> 16;

		to = near(w, r, was, r.nr, how >> 8);
		switch (how % 8) {
		case 0:
		case 1:	/* its tail is free for the next one */
			shrink(w, r, r.nr - (how >> 4) % (r.nr / 2 + 1) / 2 - 1, how >> 3 & 1);
			was = r;
			r.nr -= (how >> 4) % (r.nr / 2 + 1) / 2 + 1;
			continue;
		case 2:
			to = near(w, r, was, r.nr + how / 16 % 32, how >> 8);
			break;
		case 3:
			if (!overlap(r, to) && conf.dontunmap && all(w, r, P_LOCKED, 0))
				fine = dontunmap(w, r, to, MREMAP_FIXED);
			else
				continue;
			was = r;
			r = to;
			continue;
		case 4:	/* something else, where it was */
			if (!overlap(r, was))
				map_at(w, was, PROT_READ | PROT_WRITE, 0, false);
			continue;
		case 5:
			if (!overlap(r, was))
				unmap(w, was);
			continue;
		}
		if (overlap(r, to))
			continue;
		fine = move(w, r, to);
		was = r;
		r = to;
	}
	for (unsigned int i = r.first; op->a & 1 << 20 && i < r.first + r.nr; i++)
		check_page(w, r.z, i);
}
