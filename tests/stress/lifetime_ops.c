/* SPDX-License-Identifier: MIT */
/* What the threads do: one operation after the other, drawn by weight. */
#include "tests/stress/lifetime.h"

static void op_touch(struct worker *w, const struct op *op)
{
	const struct worker *other = &worker[op->c % THREADS];
	size_t first = op->a % COMMON, end = first + 1 + op->b % 32;

	for (size_t p = first; p < end && p < COMMON; p++) {
		/* acquire: pairs with the release in write_common() */
		uint64_t floor = __atomic_load_n(&other->common[p], __ATOMIC_ACQUIRE);

		verify_common(w, p);
		verify_word(w, other, p, floor, UINT64_MAX - 1);
		if (op->d >> p % 32 & 1)
			write_common(w, p);
	}
}

static void op_own(struct worker *w, const struct op *op)
{
	struct window *win = &w->win[op->a % WINDOWS];

	for (unsigned int p = op->b % WIN_MAX; p < win->pages; p += 1 + op->c % 3) {
		verify_own(w, win, p);
		if (op->d >> p % 32 & 1)
			write_own(win, p);
	}
}

static void op_out(struct worker *w, const struct op *op)
{
	struct target t = pick(w, op->a, op->b, op->c, op->d & 8 ? COMMON : 64);
	struct zd_migrate_result r = { 0 };
	struct lent l;
	int rc;

	if (!t.pages || !lend(&l))
		return;
	rc = zd_migrate_to_device(mm, t.addr, t.pages * PAGE, l.dev, &r);
	give_back(&l);
	EXPECT(w, !rc || (!t.sure && rc == -EINVAL), "zd_migrate_to_device(%p, %zu pages): %d",
	       t.addr, t.pages, rc);
	w->did.moved += r.moved;
}

static void op_home(struct worker *w, const struct op *op)
{
	struct target t = pick(w, op->a, op->b, op->c, op->d & 8 ? COMMON : 64);
	int rc;

	if (!t.pages)
		return;
	rc = zd_migrate_to_ram(mm, t.addr, t.pages * PAGE, NULL);
	EXPECT(w, !rc || (!t.sure && rc == -EINVAL), "zd_migrate_to_ram(%p, %zu pages): %d", t.addr,
	       t.pages, rc);
}

#define VMA_MAX 32

/* The driver's part: a device page for some, with the content in it.  (A ram
 * device's direct_access is a look-up, for any thread.) */
static void vma_copy(struct zd_migrate_vma *a, size_t pages, uint32_t which)
{
	const struct zd_device_ops *ops = a->dev->ops;
	zd_pfn_t pfn;

	for (size_t i = 0; i < pages; i++) {
		void *to;

		if (!(a->src[i] & ZD_MIGRATE_PFN_MIGRATE) || !(which >> i & 1) ||
		    ops->alloc_pages(a->dev, 1, &pfn) != 1)
			continue;
		to = ops->direct_access ? ops->direct_access(a->dev, pfn) : NULL;
		if (!to) {
			ops->unalloc_pages(a->dev, 1, &pfn);
			continue;
		}
		/* one that isn't initialised will do, too */
		if (i % 4 && zd_page_init(zd_pfn_to_page(pfn))) {
			ops->unalloc_pages(a->dev, 1, &pfn);
			continue;
		}
		memcpy(to, a->data[i], PAGE);
		a->dst[i] = zd_migrate_pfn(pfn);
	}
}

/* The three steps.  What they show of a window's pages must be right, too. */
static void op_vma(struct worker *w, const struct op *op)
{
	struct target t = pick(w, op->a, op->b, op->c, VMA_MAX);
	uint64_t src[VMA_MAX], dst[VMA_MAX];
	const void *data[VMA_MAX];
	struct zd_migrate_vma a = { .mm = mm, .src = src, .dst = dst, .data = data };
	struct lent l;
	int rc;

	if (!t.pages || !lend(&l))
		return;
	a.dev = l.dev;
	a.start = t.addr;
	a.end = t.addr + t.pages * PAGE;
	rc = zd_migrate_vma_setup(&a);
	if (!rc) {
		size_t first = t.win ? (t.addr - t.win->base) / PAGE : 0;

		for (size_t i = 0; t.win && i < t.pages; i++)
			if (src[i] & ZD_MIGRATE_PFN_MIGRATE)
				verify_own_at(w, &t.win->page[first + i], data[i]);
		vma_copy(&a, t.pages, op->d);
		zd_migrate_vma_pages(&a);
		zd_migrate_vma_finalize(&a);
		w->did.moved += a.result.moved;
	}
	give_back(&l);
	EXPECT(w, !rc || rc == -EBUSY || (!t.sure && rc == -EINVAL),
	       "zd_migrate_vma_setup(%p, %zu pages): %d", t.addr, t.pages, rc);
}

static void op_get(struct worker *w, const struct op *op)
{
	hold_pages(w, op, false);
}

static void op_pin(struct worker *w, const struct op *op)
{
	hold_pages(w, op, true);
}

static void op_release(struct worker *w, const struct op *op)
{
	if (w->nr_holds)
		hold_release(w, op->a % w->nr_holds, op->b);
}

static void op_look(struct worker *w, const struct op *op)
{
	if (w->nr_holds)
		hold_check(w, &w->hold[op->a % w->nr_holds]);
}

/* One half of the hot pages goes out and the other comes home, in turns: so the
 * descriptors of one become those of the other. */
static void op_churn(struct worker *w, const struct op *op)
{
	struct zd_page *page[HOT / 2];

	for (uint32_t round = op->a % 2; round < 16; round++) {
		uint32_t goes = round % 2 * (HOT / 2), comes = HOT / 2 - goes;
		struct op out = { .b = goes, .c = HOT / 2 - 1 };
		long n;

		for (size_t p = goes; p < goes + HOT / 2; p++)	/* no child's as well */
			write_common(w, p);
		op_out(w, &out);
		n = zd_get_user_pages_fast(mm, mem + comes * PAGE, HOT / 2, 0, page);
		for (long i = 0; i < n; i++)
			zd_put_page(page[i]);
	}
}

static void op_drop(struct worker *w, const struct op *op)
{
	struct window *win = &w->win[op->a % WINDOWS];
	unsigned int first, nr;

	if (!win->pages)
		return;
	first = op->b % win->pages;
	nr = 1 + op->c % (win->pages - first);
	window_drop(w, win, first, nr);
	for (unsigned int p = first; op->d & 1 && p < first + nr; p++)
		verify_own(w, win, p);
}

static void op_map(struct worker *w, const struct op *op)
{
	struct window *win = &w->win[op->a % WINDOWS];

	if (win->pages)
		op_own(w, op);
	else
		window_map(w, win, 1 + op->b % WIN_MAX, op->c & 1);
}

static void op_unmap(struct worker *w, const struct op *op)
{
	struct window *win = &w->win[op->a % WINDOWS];
	unsigned int nr;

	if (!win->pages)
		return;
	nr = op->b % 3 ? 1 + op->c % win->pages : win->pages;
	if (op->d & 1)
		window_cut(w, win, nr, 0);
	else
		window_cut(w, win, 0, nr);
}

static void op_remap(struct worker *w, const struct op *op)
{
	struct window *win = &w->win[op->a % WINDOWS];

	if (win->pages)
		window_remap(w, win, op);
}

/* What a forked child has: this thread's pages as they were, and of the other threads'
 * words what was published before the fork, or something later.  The child writes to its
 * own copies, which the parent must not see. */
static void in_child(struct worker *w, const struct op *op)
{
	alarm(3 * PATIENCE);
	usleep(op->a % 20000);
	verify_all(w);
	for (size_t p = 0; p < COMMON; p++)
		verify_word(w, &worker[op->b % THREADS], p, w->floor[op->b % THREADS][p],
			    UINT64_MAX - 1);
	for (size_t p = op->c % 8; p < COMMON; p += 8) {
		write_common(w, p);
		verify_common(w, p);
	}
	if (op->d % 4 == 0) {	/* a child of its own */
		pid_t pid = fork();
		int status;

		if (!pid) {
			verify_all(w);
			_exit(0);
		}
		EXPECT(w, pid > 0 && waitpid(pid, &status, 0) == pid && !status,
		       "a grandchild's end");
	}
	if (op->d & 16)
		munmap(mem, COMMON / 2 * PAGE);
	_exit(0);
}

void reap_children(struct worker *w, bool all)
{
	double until = now() + 4 * PATIENCE;

	for (unsigned int i = 0; i < CHILDREN; i++) {
		int status;

		while (w->child[i]) {
			pid_t pid = waitpid(w->child[i], &status, WNOHANG);

			EXPECT(w, pid == w->child[i] || !pid, "waitpid: %d", errno);
			EXPECT(w, !pid || !status, "a child ended with %#x", status);
			if (pid)
				w->child[i] = 0;
			else if (!all)
				break;
			else
				usleep(1000);
			EXPECT(w, now() < until, "a child doesn't end");
		}
	}
}

static void op_fork(struct worker *w, const struct op *op)
{
	const struct worker *other = &worker[op->b % THREADS];
	unsigned int i = 0;
	pid_t pid;

	if (!MAY_FORK_BESIDE_THREADS)
		return;
	reap_children(w, false);
	while (i < CHILDREN && w->child[i])
		i++;
	if (i == CHILDREN)
		return;
	for (size_t p = 0; p < COMMON; p++)
		w->floor[other->id][p] = __atomic_load_n(&other->common[p], __ATOMIC_ACQUIRE);
	pid = fork();
	EXPECT(w, pid >= 0, "fork: %d", errno);
	if (!pid)
		in_child(w, op);
	w->child[i] = pid;
}

static void op_unregister(struct worker *w, const struct op *op)
{
	struct window *win = &w->win[op->a % WINDOWS];
	int rc;

	if (!win->pages)
		return;
	forget_place(w, win->base, win->pages, NULL);
	rc = zd_mm_unregister(mm, win->base, win->pages * PAGE);
	EXPECT(w, !rc, "zd_mm_unregister: %d", rc);
	op_own(w, op);
	window_manage(w, win);
}

/* Two threads remove the device at once: this one can't get through, since it holds the
 * anchor.  Now and then it is the first, before the keeper expects a removal. */
static void op_remove(struct worker *w, const struct op *op)
{
	struct zd_pagemap_holders h = { 0 };
	struct lent l;
	int rc;

	if ((op->b % 32 && !__atomic_load_n(&wanted_back, __ATOMIC_ACQUIRE)) || !lend(&l))
		return;
	rc = zd_device_unregister_timeout(l.dev, op->a % 3, &h);
	EXPECT(w, rc == -EBUSY || (rc == -ETIMEDOUT && h.nr_pages),
	       "removing a device whose page is held: %d, %llu pages", rc,
	       (unsigned long long)h.nr_pages);
	give_back(&l);
}

static const struct {
	const char *name;
	unsigned int weight;
	void (*fn)(struct worker *w, const struct op *op);
} ops[NR_OPS] = {
	[OP_TOUCH] = { "touch", 200, op_touch },
	[OP_OWN] = { "own", 160, op_own },
	[OP_OUT] = { "out", 100, op_out },
	[OP_HOME] = { "home", 30, op_home },
	[OP_VMA] = { "vma", 50, op_vma },
	[OP_GET] = { "get", 60, op_get },
	[OP_PIN] = { "pin", 60, op_pin },
	[OP_RELEASE] = { "release", 140, op_release },
	[OP_LOOK] = { "look", 40, op_look },
	[OP_WALK] = { "walk", 40, hold_walk },
	[OP_CHURN] = { "churn", 30, op_churn },
	[OP_DROP] = { "drop", 40, op_drop },
	[OP_MAP] = { "map", 60, op_map },
	[OP_UNMAP] = { "unmap", 30, op_unmap },
	[OP_REMAP] = { "remap", 40, op_remap },
	[OP_FORK] = { "fork", 2, op_fork },
	[OP_DEVGET] = { "devget", 20, hold_device_page },
	[OP_UNREGISTER] = { "unregister", 15, op_unregister },
	[OP_REMOVE] = { "remove", 5, op_remove },
};

const char *op_name(enum op_kind kind)
{
	return ops[kind].name;
}

/* Always as many numbers, whatever is made of them. */
struct op draw(uint64_t *rng)
{
	uint64_t kind = rnd(rng), ab = rnd(rng), cd = rnd(rng);
	struct op op = { .a = ab >> 32, .b = ab, .c = cd >> 32, .d = cd };
	unsigned int total = 0;

	for (unsigned int k = 0; k < NR_OPS; k++)
		total += ops[k].weight;
	kind = (kind >> 8) % total;
	while (kind >= ops[op.kind].weight)
		kind -= ops[op.kind++].weight;
	return op;
}

struct target pick(struct worker *w, uint32_t a, uint32_t b, uint32_t c, size_t max)
{
	struct target t = { .addr = mem, .pages = COMMON, .sure = true };
	struct worker *other = a & 4 ? &worker[a / 8 % THREADS] : w;
	size_t first;

	if (a & 3) {	/* a window: half of them this thread's own */
		t.win = &other->win[a / 256 % WINDOWS];
		t.addr = __atomic_load_n(&t.win->base, __ATOMIC_RELAXED);
		t.pages = __atomic_load_n(&t.win->pages, __ATOMIC_RELAXED);
		if (!t.addr || !t.pages)
			return (struct target){ 0 };
		t.foreign = other != w;
		t.sure = !t.foreign && !t.win->loose;
		if (t.foreign)
			t.win = NULL;
	}
	first = b % t.pages;
	t.addr += first * PAGE;
	t.pages = 1 + c % (t.pages - first);
	if (t.pages > max)
		t.pages = max;
	return t;
}

static void step(struct worker *w)
{
	struct op op = draw(&w->rng);

	w->recent[w->step % RECENT] = op;
	__atomic_store_n(&w->step, w->step + 1, __ATOMIC_RELAXED);
	if (__atomic_load_n(&wanted_back, __ATOMIC_ACQUIRE))
		hold_release_devices(w);
	ops[op.kind].fn(w, &op);
	w->did.op[op.kind]++;
}

void *work(void *arg)
{
	struct worker *w = arg;

	do {
		__atomic_store_n(&w->waits, false, __ATOMIC_RELAXED);
		__atomic_store_n(&w->step, 0, __ATOMIC_RELAXED);
		w->rng = round_seed(w->id);
		while (!round_over())
			step(w);
		hold_release_devices(w);
		reap_children(w, true);
	} while (round_wait(w));
	return NULL;
}
