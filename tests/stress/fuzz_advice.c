// SPDX-License-Identifier: MIT
/* fuzz_mm: madvise of each kind, mprotect, mlock. */
#include "tests/stress/fuzz_mm.h"

static int advise(struct worker *w, struct run r, int advice, const char *what)
{
	int rc = madvise(at(r.z, r.first), r.nr * PAGE, advice) ? errno : 0;

	note(w, what, at(r.z, r.first), NULL, r.nr * PAGE, rc);
	return rc;
}

/* Part of a mapping is of another kind from now on, and may not merge again. */
static void own_vma(struct worker *w, struct run r)
{
	uint32_t vma = one_vma(w, r) ? new_vma(w) : 0;

	for (unsigned int i = r.first; i < r.first + r.nr; i++)
		pg(w, r.z, i)->vma = vma;
}

static void set_flags(struct worker *w, struct run r, unsigned int set, unsigned int clear)
{
	for (unsigned int i = r.first; i < r.first + r.nr; i++) {
		struct page *p = pg(w, r.z, i);

		p->flags = (p->flags & ~clear) | set;
	}
}

/* Holes don't stop madvise, locked pages do: how far does it get, and with what? */
static unsigned int reach(struct worker *w, struct run r, bool locked_too, int *rc)
{
	unsigned int i;

	*rc = 0;
	for (i = 0; i < r.nr; i++) {
		unsigned int flags = pg(w, r.z, r.first + i)->flags;

		if (!(flags & P_MAPPED)) {
			*rc = ENOMEM;
		} else if (flags & P_LOCKED && !locked_too) {
			*rc = EINVAL;
			break;
		}
	}
	return i;
}

/* In an arena, whose holes stay the thread's, also across holes. */
static struct run pick_holes(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c);

	if (op->d & 1 && r.nr && r.z->kind == Z_ARENA)
		while (r.nr < op->c % 64 && r.first + r.nr < ARENA)
			r.nr++;
	return r;
}

void op_drop(struct worker *w, const struct op *op)
{
	bool locked_too = conf.locked_drop && op->d & 2;
	struct run r = pick_holes(w, op);
	unsigned int nr;
	int want, rc;

	if (!r.nr)
		return;
	nr = reach(w, r, locked_too, &want);
	rc = advise(w, r, locked_too ? ADV_DONTNEED_LOCKED : MADV_DONTNEED, "DONTNEED");
	expect_result(w, "DONTNEED", at(r.z, r.first), rc, want);
	for (unsigned int i = 0; i < nr; i++)
		drop(pg(w, r.z, r.first + i));
}

void op_free(struct worker *w, const struct op *op)
{
	struct run r = pick_holes(w, op);
	unsigned int nr;
	int want, rc;

	/* what is not decided is looked at before it becomes undecided again */
	for (unsigned int i = 0; i < r.nr; i++) {
		struct page *p = pg(w, r.z, r.first + i);

		if (p->either && (p->flags & (P_READ | P_GUARD)) != P_READ)
			return;
		if (p->either)
			check_page(w, r.z, r.first + i);
	}
	if (!r.nr)
		return;
	nr = reach(w, r, false, &want);
	rc = advise(w, r, MADV_FREE, "FREE");
	expect_result(w, "FREE", at(r.z, r.first), rc, want);
	for (unsigned int i = 0; i < nr; i++) {
		struct page *p = pg(w, r.z, r.first + i);

		for (unsigned int c = 0; c < CHUNKS; c++)
			if (p->tag[c])
				p->either |= 1 << c;
		if (p->either)
			p->flags |= P_LAZY;
	}
}

/* What changes nothing that can be read. */
void op_advise(struct worker *w, const struct op *op)
{
	static const struct {
		int advice;
		const char *name;
		unsigned int set, clear;
	} what[] = {
		{ MADV_COLD, "COLD", 0, 0 },
		{ MADV_PAGEOUT, "PAGEOUT", 0, 0 },
		{ ADV_COLLAPSE, "COLLAPSE", 0, 0 },
		{ MADV_HUGEPAGE, "HUGEPAGE", P_HUGE, P_NOHUGE },
		{ MADV_NOHUGEPAGE, "NOHUGEPAGE", P_NOHUGE, P_HUGE },
		{ MADV_WILLNEED, "WILLNEED", 0, 0 },
	};
	unsigned int k = op->d % 6;
	struct run r = pick(w, op->a, op->b, op->c);
	int rc, want = 0;

	if (!r.nr)
		return;
	rc = advise(w, r, what[k].advice, what[k].name);
	if (k < 2)
		reach(w, r, false, &want);
	/* it may have no room, or no time; WILLNEED is for swap and files */
	if (what[k].advice != ADV_COLLAPSE && what[k].advice != MADV_WILLNEED)
		expect_result(w, what[k].name, at(r.z, r.first), rc, want);
	if (what[k].set) {
		own_vma(w, r);
		set_flags(w, r, what[k].set, what[k].clear);
	}
}

void op_populate(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c);
	bool write = op->d & 1, can = true;
	unsigned int need = P_READ | (write ? P_WRITE : 0);
	int rc;

	if (!conf.populate || !r.nr)
		return;
	can = all(w, r, need | P_GUARD, need);
	rc = advise(w, r, write ? ADV_POPULATE_WRITE : ADV_POPULATE_READ,
		    write ? "POPULATE_WRITE" : "POPULATE_READ");
	if (can != !rc)
		broken(w, at(r.z, r.first), "POPULATE_%s: %s", write ? "WRITE" : "READ",
		       rc ? strerrorname_np(rc) : "done");
}

void op_forkadv(struct worker *w, const struct op *op)
{
	static const struct {
		int advice;
		const char *name;
		unsigned int set, clear;
	} what[] = {
		{ MADV_DONTFORK, "DONTFORK", P_DONTFORK, 0 },
		{ MADV_WIPEONFORK, "WIPEONFORK", P_WIPE, 0 },
		{ MADV_DOFORK, "DOFORK", 0, P_DONTFORK },
		{ MADV_KEEPONFORK, "KEEPONFORK", 0, P_WIPE },
	};
	unsigned int k = op->d % 4;
	struct run r = pick(w, op->a, op->b, op->c);

	if (!r.nr)
		return;
	/* most of the memory stays what it is */
	if (k < 2 && r.nr > 32)
		r.nr = 32;
	expect_result(w, what[k].name, at(r.z, r.first), advise(w, r, what[k].advice, what[k].name),
		      0);
	own_vma(w, r);
	set_flags(w, r, what[k].set, what[k].clear);
}

void op_protect(struct worker *w, const struct op *op)
{
	static const int prot[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	static const char *const name[] = { "mprotect none", "mprotect read", "mprotect rw" };
	static const unsigned int flags[] = { 0, P_READ, P_RW };
	unsigned int k = op->d % 3;
	struct run r = pick(w, op->a, op->b, op->c);
	int rc;

	if (!r.nr)
		return;
	if (k < 2 && r.nr > 32)
		r.nr = 32;
	rc = mprotect(at(r.z, r.first), r.nr * PAGE, prot[k]) ? errno : 0;
	note(w, name[k], at(r.z, r.first), NULL, r.nr * PAGE, rc);
	expect_result(w, name[k], at(r.z, r.first), rc, 0);
	set_flags(w, r, flags[k], P_RW);
	if (op->d & 8 || k == 2)
		return;
	/* back again, and whole stretches become usable at some time */
	rc = mprotect(at(r.z, r.first), r.nr * PAGE, PROT_READ | PROT_WRITE) ? errno : 0;
	note(w, name[2], at(r.z, r.first), NULL, r.nr * PAGE, rc);
	expect_result(w, name[2], at(r.z, r.first), rc, 0);
	set_flags(w, r, P_RW, 0);
}

void op_lock(struct worker *w, const struct op *op)
{
	bool lock = op->d % 3 == 0;
	struct run r = pick(w, op->a, op->b, op->c);
	int rc;

	if (lock && r.nr > 16)
		r.nr = 16;
	if (!r.nr || (lock && !all(w, r, P_RW | P_GUARD, P_RW)))
		return;
	if (lock)
		rc = mlock(at(r.z, r.first), r.nr * PAGE) ? errno : 0;
	else
		rc = munlock(at(r.z, r.first), r.nr * PAGE) ? errno : 0;
	note(w, lock ? "mlock" : "munlock", at(r.z, r.first), NULL, r.nr * PAGE, rc);
	if (lock && rc && geteuid())	/* the limit of an ordinary user */
		return;
	expect_result(w, lock ? "mlock" : "munlock", at(r.z, r.first), rc, 0);
	own_vma(w, r);
	set_flags(w, r, lock ? P_LOCKED : 0, lock ? 0 : P_LOCKED);
}

void op_guard(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c);
	bool install = op->d & 1;
	unsigned int nr;
	int want, rc;

	if (!conf.guard || !r.nr)
		return;
	if (install && r.nr > 16)
		r.nr = 16;
	nr = reach(w, r, !install, &want);
	rc = advise(w, r, install ? ADV_GUARD_INSTALL : ADV_GUARD_REMOVE,
		    install ? "GUARD_INSTALL" : "GUARD_REMOVE");
	expect_result(w, install ? "GUARD_INSTALL" : "GUARD_REMOVE", at(r.z, r.first), rc, want);
	for (unsigned int i = 0; i < nr; i++) {
		struct page *p = pg(w, r.z, r.first + i);

		if (install)
			drop(p);
		p->flags = install ? p->flags | P_GUARD : p->flags & ~P_GUARD;
	}
}
