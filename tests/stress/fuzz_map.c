// SPDX-License-Identifier: MIT
/* fuzz_mm: mmap, munmap, mremap. */
#include "tests/stress/fuzz_mm.h"

#define PRIVATE_ANON	(MAP_PRIVATE | MAP_ANONYMOUS)

static size_t bytes(struct run r)
{
	return r.nr * PAGE;
}

/* So that the kernel's parts of it stay mergeable, whatever is done to them: they
 * have one anon_vma from the start. */
static void anchor(struct worker *w, struct run r)
{
	if (!pg(w, r.z, r.first)->vma)
		return;
	if (all(w, (struct run) { r.z, r.first, 1 }, P_WRITE | P_GUARD, P_WRITE))
		write_page(w, r.z, r.first, 1);
	else
		for (unsigned int i = r.first; i < r.first + r.nr; i++)
			pg(w, r.z, i)->vma = 0;
}

/* A place in the arena, whatever is there. */
static struct run place(struct worker *w, uint32_t b, uint32_t nr)
{
	struct run r = { &w->zone[0], b % ARENA, nr };

	if (r.first + r.nr > ARENA)
		r.first = r.nr > ARENA ? 0 : ARENA - r.nr;
	if (r.nr > ARENA)
		r.nr = ARENA;
	return r;
}

static void *map(struct worker *w, void *addr, size_t len, int prot, int flags)
{
	void *p = mmap(addr, len, prot, PRIVATE_ANON | flags, -1, 0);

	note(w, addr ? "mmap fixed" : "mmap", NULL, p, len, p == MAP_FAILED ? errno : 0);
	if (p == MAP_FAILED)
		broken(w, addr, "mmap: %m");
	return p;
}

/* A run of newly mapped pages in the arena; what was there is gone. */
static void map_at(struct worker *w, struct run r, int prot, int flags)
{
	map(w, at(r.z, r.first), bytes(r), prot, MAP_FIXED | flags);
	fresh(w, r, (prot & PROT_READ ? P_READ : 0) | (prot & PROT_WRITE ? P_WRITE : 0));
	if (!prot)	/* not charged for: it never merges with what is */
		for (unsigned int i = r.first; i < r.first + r.nr; i++)
			pg(w, r.z, i)->vma = 0;
	anchor(w, r);
}

static void unmap(struct worker *w, struct run r)
{
	int rc = munmap(at(r.z, r.first), bytes(r)) ? errno : 0;

	note(w, "munmap", at(r.z, r.first), NULL, bytes(r), rc);
	expect_result(w, "munmap", at(r.z, r.first), rc, 0);
	forget(w, r);
}

void map_arena(struct worker *w)
{
	map_at(w, place(w, 0, ARENA), PROT_READ | PROT_WRITE, 0);
}

static void adopt(struct zone *z, char *base, unsigned int nr)
{
	z->kind = Z_NATURAL;
	z->base = base;
	z->nr = nr;
}

void op_map(struct worker *w, const struct op *op)
{
	unsigned int nr = op->c & 3 ? 32 + op->d % (NATURAL - 31) : op->d % 32 + 1;
	int prot = op->a % 16 ? PROT_READ | PROT_WRITE : PROT_NONE;
	int flags = (op->c >> 2) % 4 ? 0 : MAP_POPULATE;
	struct zone *z = op->a & 1 ? free_zone(w) : NULL, *next;
	void *hint = NULL;

	if (!z) {
		map_at(w, place(w, op->b, nr), prot, flags);
		return;
	}
	/* behind another one, if that is free: they merge */
	next = &w->zone[2 + op->b % (ZONES - 2)];
	if (op->c & 16 && next->kind)
		hint = at(next, next->nr);
	adopt(z, map(w, hint, nr * PAGE, PROT_READ | PROT_WRITE, flags), nr);
	fresh(w, (struct run) { z, 0, nr }, P_RW);
	anchor(w, (struct run) { z, 0, nr });
}

void op_unmap(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c);

	if (op->d % 4 == 0)	/* several mappings and holes at once */
		r = place(w, op->b, op->c % 512 + 1);
	if (r.nr && r.z->kind != Z_HEAP)
		unmap(w, r);
}

/* The whole arena anew, in one piece or in several. */
void op_renew(struct worker *w, const struct op *op)
{
	unsigned int n = op->b % 3 ? 1 : op->c % 5 + 2;
	struct run r = place(w, 0, ARENA);

	if (op->a & 1)
		unmap(w, r);
	for (unsigned int i = 0; i < n; i++)
		map_at(w, (struct run) { r.z, ARENA / n * i, ARENA / n },
		       PROT_READ | PROT_WRITE, 0);
	for (unsigned int i = 0; op->a & 2 && i < ARENA / n * n; i++)
		write_page(w, r.z, i, ALL_CHUNKS);
}

/* A piece comes and goes, over and over. */
void op_burst(struct worker *w, const struct op *op)
{
	struct run r = place(w, op->b, op->c % 32 + 1);

	for (unsigned int i = 0; i < op->d % 40 + 1; i++) {
		if (op->a & 1)
			unmap(w, r);
		map_at(w, r, PROT_READ | PROT_WRITE, op->a & 2 ? MAP_POPULATE : 0);
	}
	for (unsigned int i = r.first; i < r.first + r.nr; i++)
		write_page(w, r.z, i, ALL_CHUNKS);
}

/* --- mremap --- */

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
	static __thread struct page tmp[ARENA];
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

/* Shortens it to what is one mapping for sure. */
static void cut_to_one_vma(struct worker *w, struct run *r)
{
	while (r->nr && !one_vma(w, *r))
		r->nr--;
}

/* Where it goes to: the arena, over whatever is there, or a mapping made for it. */
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
	*to = (struct run) { z, 0, nr };
	fresh(w, *to, P_RW);
	if (op->a >> 10 & 1)
		for (unsigned int i = 0; i < nr; i++)
			write_page(w, z, i, ALL_CHUNKS);
	return true;
}

/* With MREMAP_FIXED: as long as it was, longer or shorter; several mappings at once. */
void op_move(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c), to;
	unsigned int nr;
	char *got;

	if (!r.nr || r.z->kind == Z_HEAP)
		return;
	nr = op->a >> 12 & 3 ? r.nr : op->d % (r.nr * 2) + 1;
	if (nr > ARENA)
		nr = ARENA;
	if (nr != r.nr || !conf.many_vmas) {
		cut_to_one_vma(w, &r);
		nr = nr > 2 * r.nr ? 2 * r.nr : nr;
	}
	if (!r.nr || !destination(w, op, nr, &to))
		return;
	got = remap(w, r, nr, MREMAP_MAYMOVE | MREMAP_FIXED, at(to.z, to.first), "mremap fixed");
	if (overlap(r, to)) {
		expect_result(w, "mremap onto itself", at(r.z, r.first), errno, EINVAL);
		return;
	}
	if (got == MAP_FAILED && errno == EFAULT && conf.any_errno)
		return;
	if (got != at(to.z, to.first))
		broken(w, at(r.z, r.first), "mremap of %u pages (%s) to %u at %p: %p, %m", r.nr,
		       one_vma(w, r) ? "one mapping" : "several mappings", nr,
		       at(to.z, to.first), got);
	if (nr < r.nr) {
		forget(w, (struct run) { r.z, r.first + nr, r.nr - nr });
		r.nr = nr;
	}
	carry(w, r, to, false);
}

static void shrink(struct worker *w, struct run r, unsigned int nr, int flags)
{
	char *got = remap(w, r, nr, flags, NULL, "mremap shrink");

	if (got == MAP_FAILED && errno == EFAULT && conf.any_errno)
		return;
	if (got != at(r.z, r.first))
		broken(w, at(r.z, r.first), "mremap of %u pages to %u: %p, %m", r.nr, nr, got);
	forget(w, (struct run) { r.z, r.first + nr, r.nr - nr });
}

/* It has grown where it is. */
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

/* Is there room behind it: 1 yes, 0 no, -1 others may have it? */
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
	if (rc == EFAULT && conf.any_errno)
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
		carry(w, r, (struct run) { z, 0, nr }, false);
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

void op_dontunmap(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c), to = { 0 };
	int flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
	char *got;

	if (r.nr > NATURAL)
		r.nr = NATURAL;
	cut_to_one_vma(w, &r);
	/* a locked mapping is unlocked whole: let it be */
	if (!conf.dontunmap || !r.nr || r.z->kind == Z_HEAP || !all(w, r, P_LOCKED, 0))
		return;
	if (op->a >> 9 & 1) {
		to = place(w, op->d, r.nr);
		if (overlap(r, to))
			return;
		flags |= MREMAP_FIXED;
	} else {
		to = (struct run) { free_zone(w), 0, r.nr };
		if (!to.z)
			return;
	}
	got = remap(w, r, r.nr, flags, flags & MREMAP_FIXED ? at(to.z, to.first) : NULL,
		    "mremap dontunmap");
	if (got == MAP_FAILED && errno == EFAULT && conf.any_errno)
		return;
	if (got == MAP_FAILED || (flags & MREMAP_FIXED && got != at(to.z, to.first)))
		broken(w, at(r.z, r.first), "mremap(DONTUNMAP) of %u pages: %p, %m", r.nr, got);
	if (!(flags & MREMAP_FIXED))
		adopt(to.z, got, r.nr);
	carry(w, r, to, true);
}
