// SPDX-License-Identifier: MIT
/* fuzz_mm: the thread itself, and the kernel, read and write what is there. */
#include "tests/stress/fuzz_mm.h"

/* --- the thread --- */

void op_write(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c);
	unsigned int stride = op->d & 1 ? 1 : op->d % 7 + 1;

	for (unsigned int i = 0; i < r.nr; i += stride) {
		unsigned int k = op->d & 2 ? i : r.nr - 1 - i;
		unsigned int flags = pg(w, r.z, r.first + k)->flags;

		if ((flags & (P_WRITE | P_GUARD)) == P_WRITE)
			write_page(w, r.z, r.first + k,
				   op->d & 4 ? ALL_CHUNKS : (op->d >> 8 & ALL_CHUNKS) | 1);
	}
	if (r.nr)
		note(w, "write", at(r.z, r.first), NULL, r.nr * PAGE, 0);
}

void op_check(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c);
	unsigned int stride = op->d & 1 ? 1 : op->d % 7 + 1;

	for (unsigned int i = 0; i < r.nr; i += stride)
		check_page(w, r.z, r.first + (op->d & 2 ? i : r.nr - 1 - i));
}

void op_check_zone(struct worker *w, const struct op *op)
{
	check_zone(w, &w->zone[op->a % ZONES]);
	if (op->b % 8 == 0)
		check_blocks(w);
}

/* What may not be touched raises SIGSEGV, and the kernel says EFAULT. */
void op_look(struct worker *w, const struct op *op)
{
	struct run r = pick(w, op->a, op->b, op->c);
	unsigned int seen = 0;

	for (unsigned int i = 0; i < r.nr && seen < 4; i++) {
		struct page *p = pg(w, r.z, r.first + i);
		char *addr = at(r.z, r.first + i) + op->d % PAGE;
		bool none = p->flags & P_GUARD || !(p->flags & P_READ);
		int sig;

		if (!none && p->flags & P_WRITE)
			continue;
		seen++;
		sig = touch(addr, !none || op->d & 1 << 12);
		if (sig != SIGSEGV)
			broken(w, addr, "%s: signal %s, not SEGV",
			       p->flags & P_GUARD ? "a guard" : "protected",
			       sig ? sigabbrev_np(sig) : "0");
		if (!none || op->d & 1 << 13)
			continue;
		if (pwrite(w->scratch_fd, addr, 1, 0) != -1 || errno != EFAULT)
			broken(w, addr, "write(2) from a page that can't be read: %m");
	}
}

void op_nap(struct worker *w, const struct op *op)
{
	(void)w;
	usleep(op->a % 8 ? op->b % 2000 : op->b % 60000);
}

/* --- the kernel --- */

/* The part at the front that can be used so. */
static struct run usable(struct worker *w, struct run r, unsigned int need, unsigned int max)
{
	unsigned int nr = 0;

	while (nr < r.nr && nr < max &&
	       (pg(w, r.z, r.first + nr)->flags & (need | P_GUARD)) == need)
		nr++;
	r.nr = nr;
	return r;
}

static void expect_bytes(struct worker *w, const char *what, struct run r, ssize_t got)
{
	note(w, what, at(r.z, r.first), NULL, r.nr * PAGE, got < 0 ? errno : 0);
	if (got != (ssize_t)(r.nr * PAGE))
		broken(w, at(r.z, r.first) + (got < 0 ? 0 : got), "%s of %lu bytes: %zd, %m", what,
		       r.nr * PAGE, got);
}

static void check_scratch(struct worker *w, struct run r)
{
	for (unsigned int i = 0; i < r.nr; i++)
		check_at(w, r.z, r.first + i, w->scratch + i * PAGE);
}

/* New content for @r, in the scratch file. */
static uint32_t fill_scratch(struct worker *w, struct run r)
{
	uint32_t tag = new_tag(w);

	for (unsigned int i = 0; i < r.nr * CHUNKS; i++)
		fill_chunk(w->scratch + i * CHUNK, tag, i % CHUNKS);
	return tag;
}

static void all_written(struct worker *w, struct run r, uint32_t tag)
{
	for (unsigned int i = 0; i < r.nr; i++)
		wrote(pg(w, r.z, r.first + i), ALL_CHUNKS, tag);
}

void op_file(struct worker *w, const struct op *op)
{
	struct run r = usable(w, pick(w, op->a, op->b, op->c), op->d & 1 ? P_RW : P_READ, SCRATCH);
	uint32_t tag;

	if (!r.nr)
		return;
	if (!(op->d & 1)) {
		expect_bytes(w, "write(2)", r,
			     pwrite(w->scratch_fd, at(r.z, r.first), r.nr * PAGE, 0));
		check_scratch(w, r);
		return;
	}
	tag = fill_scratch(w, r);
	expect_bytes(w, "read(2)", r, pread(w->scratch_fd, at(r.z, r.first), r.nr * PAGE, 0));
	all_written(w, r, tag);
}

void op_vm(struct worker *w, const struct op *op)
{
	struct run r = usable(w, pick(w, op->a, op->b, op->c), op->d & 1 ? P_RW : P_READ, SCRATCH);
	struct iovec local = { w->scratch, r.nr * PAGE }, remote;
	uint32_t tag;

	if (!r.nr)
		return;
	remote = (struct iovec){ at(r.z, r.first), r.nr * PAGE };
	if (!(op->d & 1)) {
		expect_bytes(w, "process_vm_readv", r,
			     process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
		check_scratch(w, r);
		return;
	}
	tag = fill_scratch(w, r);
	expect_bytes(w, "process_vm_writev", r,
		     process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	all_written(w, r, tag);
}

/* Through a pipe, from one place to another. */
void op_pipe(struct worker *w, const struct op *op)
{
	struct run from = usable(w, pick(w, op->a, op->b, op->c), P_READ, 16), to;
	size_t len, have = 0;
	ssize_t n;

	to = usable(w, pick(w, op->d, op->d >> 8, op->c), P_RW, from.nr);
	from.nr = to.nr;
	if (!to.nr ||
	    (from.z == to.z && from.first < to.first + to.nr && to.first < from.first + from.nr))
		return;
	for (unsigned int i = 0; i < from.nr; i++) {
		check_page(w, from.z, from.first + i);
		if (pg(w, from.z, from.first + i)->flags & P_LAZY)
			return;
	}
	len = from.nr * PAGE;
	expect_bytes(w, "write to a pipe", from, write(w->pipe[1], at(from.z, from.first), len));
	while (have < len) {
		n = read(w->pipe[0], at(to.z, to.first) + have, len - have);
		if (n <= 0)
			broken(w, at(to.z, to.first) + have, "read from a pipe: %zd, %m", n);
		have += n;
	}
	note(w, "read from a pipe", NULL, at(to.z, to.first), len, 0);
	for (unsigned int i = 0; i < to.nr; i++) {
		struct page *p = pg(w, to.z, to.first + i);

		wrote(p, ALL_CHUNKS, 0);
		memcpy(p->tag, pg(w, from.z, from.first + i)->tag, sizeof(p->tag));
		check_page(w, to.z, to.first + i);
	}
}
