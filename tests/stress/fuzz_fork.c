// SPDX-License-Identifier: MIT
/* fuzz_mm: children, and memory that goes from thread to thread. */
#include "tests/stress/fuzz_mm.h"

#define DEPTH		2	/* of children */
#define CHILD_STEPS	120
#define CHILD_S		60	/* its bound */
#define KILLED		(1u << 31)

/* --- children --- */

/* A slot of the shared memory that no living child uses. */
static int take_slot(void)
{
	for (int i = 0; i < SLOTS; i++) {
		int pid = __atomic_load_n(&sh->slot_pid[i], __ATOMIC_ACQUIRE);

		/* -1: being taken.  Orphans can't be waited for here. */
		if (pid > 0 && !(kill(pid, 0) && errno == ESRCH))
			continue;
		if (pid >= 0 && __atomic_compare_exchange_n(&sh->slot_pid[i], &pid, -1, false,
							    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return i;
	}
	return -1;
}

/* Mappings that merged may be several in the child, each with an anon_vma of its own. */
static void relabel(struct worker *w, struct zone *z)
{
	struct page was = { 0 }, *p;

	for (unsigned int i = 0; i < z->nr; i++) {
		p = pg(w, z, i);
		if (!i || !(p->flags & P_MAPPED) || p->vma != was.vma ||
		    ((p->flags ^ was.flags) & (P_VMA | P_MAPPED)) || !p->vma) {
			was = *p;
			p->vma = p->vma ? new_vma(w) : 0;
		} else {
			p->vma = p[-1].vma;
		}
	}
}

/* What the child of a fork has of its parent's memory. */
static void inherit(struct worker *w)
{
	for (unsigned int k = 0; k < ZONES; k++) {
		struct zone *z = &w->zone[k];

		for (unsigned int i = 0; z->kind && i < z->nr; i++) {
			struct page *p = pg(w, z, i);

			p->flags &= ~P_LOCKED;
			if (p->flags & P_DONTFORK) {
				drop(p);
				p->flags = 0;
			} else if (p->flags & P_WIPE) {
				drop(p);
				p->flags &= ~P_GUARD;
				p->vma = 0;	/* without an anon_vma */
			}
		}
		if (z->kind)
			relabel(w, z);
	}
}

void open_files(struct worker *w)
{
	w->scratch_fd = memfd_create("fuzz_mm", MFD_CLOEXEC);
	if (w->scratch_fd < 0 || ftruncate(w->scratch_fd, SCRATCH * PAGE) ||
	    pipe2(w->pipe, O_CLOEXEC))
		broken(w, NULL, "memfd, pipe: %m");
	w->scratch = mmap(NULL, SCRATCH * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, w->scratch_fd,
			  0);
	if (w->scratch == MAP_FAILED)
		broken(w, NULL, "mmap of a file: %m");
}

static void __attribute__((noreturn)) child_life(struct worker *w, int slot, uint64_t how)
{
	unsigned int steps = how % CHILD_STEPS;

	me = w;
	w->pid = getpid();
	__atomic_store_n(&sh->slot_pid[slot], w->pid, __ATOMIC_RELEASE);
	alarm(CHILD_S);
	w->id = THREADS + slot;
	w->depth++;
	w->rng = how | 1;
	w->step = 0;
	memset(w->child, 0, sizeof(w->child));
	inherit(w);
	note(w, "born", NULL, NULL, 0, 0);
	close(w->scratch_fd);
	close(w->pipe[0]);
	close(w->pipe[1]);
	open_files(w);
	for (unsigned int i = 0; i < steps; i++)
		step(w);
	for (unsigned int k = 0; k < ZONES; k++)
		if (how >> (32 + k) & 1)
			check_zone(w, &w->zone[k]);
	if (how >> 63)
		check_blocks(w);
	reap(w, true);
	_exit(0);
}

void op_fork(struct worker *w, const struct op *op)
{
	unsigned int k = w->child[0] ? 1 : 0;
	struct worker *cw;
	int slot;
	pid_t pid;

	reap(w, false);
	if (w->depth >= DEPTH || w->child[k])
		return;
	slot = take_slot();
	if (slot < 0)
		return;
	cw = &sh->slot[slot];
	*cw = *w;
	pid = fork();
	if (pid < 0)
		broken(w, NULL, "fork: %m");
	if (!pid)
		child_life(cw, slot, (uint64_t)op->a << 32 | op->b);
	note(w, "fork", NULL, NULL, 0, 0);
	/* the child may have said so itself */
	__atomic_store_n(&sh->slot_pid[slot], pid, __ATOMIC_RELEASE);
	w->child[k] = pid;
	w->child_slot[k] = slot;
}

void op_kill(struct worker *w, const struct op *op)
{
	unsigned int k = op->a % CHILDREN;

	if (!w->child[k] || w->child_slot[k] & KILLED)
		return;
	kill(w->child[k], SIGKILL);
	w->child_slot[k] |= KILLED;
}

/* The children that have ended; or wait for all. */
void reap(struct worker *w, bool all_of_them)
{
	for (unsigned int k = 0; k < CHILDREN; k++) {
		int status;
		pid_t pid;

		if (!w->child[k])
			continue;
		do
			pid = waitpid(w->child[k], &status, all_of_them ? 0 : WNOHANG);
		while (pid < 0 && errno == EINTR);
		if (!pid)
			continue;
		if (pid < 0)
			broken(w, NULL, "waitpid: %m");
		if (status && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
				w->child_slot[k] & KILLED))
			broken(w, NULL, "child %d ended with %s %d", w->child[k],
			       WIFSIGNALED(status) ? "signal" : "status",
			       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		/* the pid names no process since waitpid(): another child may have the slot */
		__atomic_compare_exchange_n(&sh->slot_pid[w->child_slot[k] & ~KILLED], &pid, 0,
					    false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
		w->child[k] = 0;
	}
}

/* --- from thread to thread --- */

static void put(struct worker *w, struct gift *g, struct zone *z, struct block *b)
{
	int none = 0;

	if (!__atomic_compare_exchange_n(&g->state, &none, 1, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return;
	g->zone = *z;
	g->block = *b;
	b->mem = NULL;
	if (z->kind == Z_NATURAL) {
		memcpy(g->page, pg(w, z, 0), z->nr * sizeof(g->page[0]));
		note(w, "given away", z->base, NULL, z->nr * PAGE, 0);
		z->kind = Z_NONE;
	} else {
		g->zone.kind = Z_NONE;
	}
	__atomic_store_n(&g->state, 2, __ATOMIC_RELEASE);
}

static void take(struct worker *w, struct gift *g, struct zone *z, struct block *b)
{
	int full = 2;

	if (!__atomic_compare_exchange_n(&g->state, &full, 1, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return;
	if (g->zone.kind) {
		z->kind = Z_NATURAL;
		z->base = g->zone.base;
		z->nr = g->zone.nr;
		memcpy(pg(w, z, 0), g->page, z->nr * sizeof(g->page[0]));
		relabel(w, z);
		note(w, "taken over", z->base, NULL, z->nr * PAGE, 0);
	}
	*b = g->block;
	__atomic_store_n(&g->state, 0, __ATOMIC_RELEASE);
	if (z->kind)
		check_zone(w, z);
}

void op_hand(struct worker *w, const struct op *op)
{
	struct gift *g = &sh->gift[op->a % GIFTS];
	struct zone *z = &w->zone[2 + op->b % (ZONES - 2)];
	struct block *b = &w->block[op->c % BLOCKS];

	/* a child has a copy of everything, and no thread to give it to */
	if (w->depth)
		return;
	if (op->d & 1) {
		put(w, g, z, b);
		return;
	}
	z = free_zone(w);
	for (unsigned int i = 0; i < BLOCKS && b->mem; i++)
		b = &w->block[i];
	if (z && !b->mem)
		take(w, g, z, b);
}
