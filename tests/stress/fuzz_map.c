// SPDX-License-Identifier: MIT
/* fuzz_mm: mmap, munmap. */
#include "tests/stress/fuzz_mm.h"

#define PRIVATE_ANON	(MAP_PRIVATE | MAP_ANONYMOUS)

/* So that the kernel's parts of it stay mergeable, whatever is done to them: they
 * have one anon_vma from the start. */
void anchor(struct worker *w, struct run r)
{
	if (!pg(w, r.z, r.first)->vma)
		return;
	if (all(w, (struct run){ r.z, r.first, 1 }, P_WRITE | P_GUARD, P_WRITE))
		write_page(w, r.z, r.first, 1);
	else
		for (unsigned int i = r.first; i < r.first + r.nr; i++)
			pg(w, r.z, i)->vma = 0;
}

/* A place in the arena, whatever is there. */
struct run place(struct worker *w, uint32_t b, uint32_t nr)
{
	struct run r = { &w->zone[0], b % ARENA, nr };

	if (r.first + r.nr > ARENA)
		r.first = r.nr > ARENA ? 0 : ARENA - r.nr;
	if (r.nr > ARENA)
		r.nr = ARENA;
	return r;
}

void *map(struct worker *w, void *addr, size_t len, int prot, int flags)
{
	void *p = mmap(addr, len, prot, PRIVATE_ANON | flags, -1, 0);

	note(w, addr ? "mmap fixed" : "mmap", NULL, p, len, p == MAP_FAILED ? errno : 0);
	if (p == MAP_FAILED)
		broken(w, addr, "mmap: %m");
	return p;
}

/* A run of newly mapped pages in the arena; what was there is gone. */
void map_at(struct worker *w, struct run r, int prot, int flags, bool touched)
{
	map(w, at(r.z, r.first), bytes(r), prot, MAP_FIXED | flags);
	fresh(w, r, (prot & PROT_READ ? P_READ : 0) | (prot & PROT_WRITE ? P_WRITE : 0));
	if (!prot || !touched)	/* not charged for, or without an anon_vma */
		for (unsigned int i = r.first; i < r.first + r.nr; i++)
			pg(w, r.z, i)->vma = 0;
	anchor(w, r);
}

void unmap(struct worker *w, struct run r)
{
	int rc = munmap(at(r.z, r.first), bytes(r)) ? errno : 0;

	note(w, "munmap", at(r.z, r.first), NULL, bytes(r), rc);
	expect_result(w, "munmap", at(r.z, r.first), rc, 0);
	forget(w, r);
}

void map_arena(struct worker *w)
{
	map_at(w, place(w, 0, ARENA), PROT_READ | PROT_WRITE, 0, true);
}

void adopt(struct zone *z, char *base, unsigned int nr)
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
		map_at(w, place(w, op->b, nr), prot, flags, true);
		return;
	}
	/* behind another one, if that is free: they merge */
	next = &w->zone[2 + op->b % (ZONES - 2)];
	if (op->c & 16 && next->kind)
		hint = at(next, next->nr);
	adopt(z, map(w, hint, nr * PAGE, PROT_READ | PROT_WRITE, flags), nr);
	fresh(w, (struct run){ z, 0, nr }, P_RW);
	anchor(w, (struct run){ z, 0, nr });
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

	if (op->d % 4)	/* for some time it stays what it is */
		return;
	if (op->a & 1)
		unmap(w, r);
	for (unsigned int i = 0; i < n; i++)
		map_at(w, (struct run){ r.z, ARENA / n * i, ARENA / n }, PROT_READ | PROT_WRITE, 0,
		       true);
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
		map_at(w, r, PROT_READ | PROT_WRITE, op->a & 2 ? MAP_POPULATE : 0, i == op->d % 40);
	}
	for (unsigned int i = r.first; i < r.first + r.nr; i++)
		write_page(w, r.z, i, ALL_CHUNKS);
}
