// SPDX-License-Identifier: MIT
/*
 * A program that knows nothing of zonedev, and does to its memory whatever can be done,
 * at random, in several threads and their children; beside it a plain copy of what each
 * byte must be.  fuzz_mm.sh runs it under zonedev run, and natively.
 *
 * usage: fuzz_mm [SEED [SECONDS]]; also
 *	ZD_SEED, ZD_SECONDS (10)
 *	ZD_THREADS (4)	1 to 8
 *	ZD_OPS		which kinds of operations, of those in op_table[]: "map,move";
 *			"-lock,-fork": all but those
 *	ZD_ERRNO=0	go on where mremap says EFAULT and shouldn't
 *
 * What runs.  Each thread has an arena of its own, 12 MiB at an address that the kernel
 * gives to no other mapping: there it maps, moves and unmaps what it likes, side by side, on
 * top of each other, with holes.  It has up to a dozen mappings where the kernel puts
 * them: next to those of other threads (they merge, and what one unmaps another gets at
 * once), and blocks of malloc's.  Thread 0 has the heap, too (brk).  A thread draws an
 * operation, does it, draws the next; mostly touching for a while, then in a storm of
 * changes.  Children of fork do the same with what they inherited, and end, or are
 * killed.
 *
 * The copy (fuzz_copy.c) is in shared memory, which is no business of zonedev's: for each
 * page and each 512 bytes of it a tag, from which the content follows: owner and number of
 * the write, and nothing of the address.  What Linux leaves open (MADV_FREE: old or zeros)
 * the copy leaves open until it has been looked at.  Each call's errno is compared with what
 * Linux says for that state.
 *
 * What broken looks like: one line "BROKEN: ..." with the address, what was found (zeros,
 * or whose write) and what must be there; the seed; what was done to that page, through its
 * moves, newest first; the kernel's view.  Or "nothing happens": a call or a page fault
 * that doesn't end.  Exit status 1.
 *
 * Running it again.  The operations of a thread are a function of seed and thread; where
 * the kernel puts things, and how the threads interleave, is not.
 */
#include "tests/stress/fuzz_mm.h"

#define ARENA_AT	0x200000000000ul
#define ARENA_STRIDE	0x10000000000ul
#define PROBE_AT	0x1f0000000000ul
#define PHASE		64	/* steps */
#define STUCK_S		30

struct shared *sh;
struct config conf;

/* In a calm phase only the first ones happen. */
#define CALM		5

static const struct {
	const char *name;
	void (*op)(struct worker *w, const struct op *op);
	unsigned int weight;
} op_table[] = {
	{ "touch", op_write, 20 },
	{ "touch", op_check, 20 },
	{ "touch", op_check_zone, 2 },
	{ "touch", op_look, 2 },
	{ "touch", op_nap, 1 },
	{ "map", op_map, 8 },
	{ "map", op_unmap, 5 },
	{ "map", op_renew, 1 },
	{ "burst", op_burst, 1 },
	{ "move", op_move, 8 },
	{ "chain", op_chain, 6 },
	{ "resize", op_resize, 8 },
	{ "dontunmap", op_dontunmap, 3 },
	{ "drop", op_drop, 5 },
	{ "free", op_free, 3 },
	{ "advise", op_advise, 5 },
	{ "populate", op_populate, 3 },
	{ "forkadv", op_forkadv, 2 },
	{ "protect", op_protect, 5 },
	{ "lock", op_lock, 2 },
	{ "guard", op_guard, 3 },
	{ "malloc", op_malloc, 8 },
	{ "brk", op_brk, 2 },
	{ "io", op_file, 3 },
	{ "io", op_pipe, 2 },
	{ "io", op_vm, 3 },
	{ "fork", op_fork, 1 },
	{ "fork", op_kill, 1 },
	{ "hand", op_hand, 4 },
	{ "spans", op_move, 1 },	/* without: mremap of one mapping at a time */
};
#define OPS	(sizeof(op_table) / sizeof(op_table[0]))

static bool enabled(const char *name)
{
	for (unsigned int i = 0; i < OPS; i++)
		if (!strcmp(op_table[i].name, name))
			return conf.ops >> i & 1;
	return false;
}

static void choose(char *list)
{
	bool add = list[0] != '-';
	char *save, *word;

	conf.ops = add ? (1u << CALM) - 1 : ~0ull;
	for (word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		const char *name = word + (*word == '-');
		bool found = !strcmp(name, "all");

		for (unsigned int i = 0; i < OPS; i++) {
			if (strcmp(op_table[i].name, name) && strcmp("all", name))
				continue;
			found = true;
			if (*word == '-')
				conf.ops &= ~(1ull << i);
			else
				conf.ops |= 1ull << i;
		}
		if (!found) {
			fprintf(stderr, "fuzz_mm: no operations called %s\n", name);
			exit(2);
		}
	}
}

/* --- a thread --- */

static unsigned int draw(struct worker *w)
{
	enum { CALM_PHASE, MIXED, STORM } phase = (w->step / PHASE * 7 + w->id) % 3;
	unsigned int first = 0, last = OPS, sum = 0;
	uint64_t r = rnd(&w->rng) >> 20;

	if (phase == CALM_PHASE && r % 16)
		last = CALM;
	else if (phase == STORM && r % 8 && conf.ops >> CALM)
		first = CALM;
	for (unsigned int i = first; i < last; i++)
		sum += conf.ops >> i & 1 ? op_table[i].weight : 0;
	r = (r >> 8) % (sum ? sum : 1);
	for (unsigned int i = first; i < last; i++) {
		unsigned int weight = conf.ops >> i & 1 ? op_table[i].weight : 0;

		if (r < weight)
			return i;
		r -= weight;
	}
	return 0;
}

void step(struct worker *w)
{
	unsigned int i = draw(w);

	if (w->depth && __atomic_load_n(&sh->failed, __ATOMIC_RELAXED))
		_exit(1);	/* the whole test ends */
	w->now = (struct op){
		.kind = i, .a = rnd(&w->rng) >> 16, .b = rnd(&w->rng) >> 16,
		.c = rnd(&w->rng) >> 16, .d = rnd(&w->rng) >> 16,
	};
	op_table[i].op(w, &w->now);
	w->count[i]++;
	__atomic_store_n(&w->step, w->step + 1, __ATOMIC_RELAXED);
}

void check_all(struct worker *w)
{
	for (unsigned int i = 0; i < ZONES; i++)
		check_zone(w, &w->zone[i]);
	check_blocks(w);
}

static void unmap_all(struct worker *w)
{
	for (unsigned int i = 0; i < ZONES; i++) {
		struct zone *z = &w->zone[i];

		if (z->kind == Z_ARENA)
			munmap(z->base, ARENA * PAGE);
		for (unsigned int k = 0; z->kind == Z_NATURAL && k < z->nr; k++)
			if (pg(w, z, k)->flags & P_MAPPED)
				munmap(at(z, k), PAGE);
	}
	free_blocks(w);
}

static void lay_out(struct worker *w)
{
	for (unsigned int i = 0; i < ZONES; i++)
		w->zone[i].first = i ? ARENA + (i - 1) * NATURAL : 0;
	w->zone[0].kind = Z_ARENA;
	w->zone[0].nr = ARENA;
	w->zone[0].base = (char *)ARENA_AT + w->id * ARENA_STRIDE;
	map_arena(w);
	if (w->id || !enabled("brk"))
		return;
	w->zone[1].kind = Z_HEAP;
	w->zone[1].nr = NATURAL;
	w->zone[1].base = (char *)(((uintptr_t)sbrk(0) + PAGE - 1) & ~(PAGE - 1));
	if (brk(w->zone[1].base))
		broken(w, NULL, "brk: %m");
}

static void *work(void *arg)
{
	struct worker *w = me = arg;
	uint64_t end = now_ns() + conf.seconds * 1e9;

	open_files(w);
	lay_out(w);
	while (now_ns() < end)
		step(w);
	check_all(w);
	reap(w, true);
	unmap_all(w);
	__atomic_store_n(&w->over, true, __ATOMIC_RELEASE);
	return NULL;
}

/* --- the whole --- */

/* What can this kernel do?  Asked with a few pages, which zonedev lets alone. */
static void probe(void)
{
	char *p = mmap((void *)PROBE_AT, 8 * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	char *to = p + 32 * PAGE;

	if (p == MAP_FAILED)
		broken(NULL, NULL, "mmap: %m");
	conf.guard = !madvise(p, PAGE, ADV_GUARD_INSTALL) && !madvise(p, PAGE, ADV_GUARD_REMOVE);
	conf.populate = !madvise(p, PAGE, ADV_POPULATE_READ);
	conf.locked_drop = !madvise(p, PAGE, ADV_DONTNEED_LOCKED);
	conf.dontunmap = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED,
				to) == to;
	madvise(p + PAGE, PAGE, MADV_DONTFORK);
	conf.many_vmas = enabled("spans") && !conf.any_errno &&
			 mremap(p, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to;
	munmap(p, 8 * PAGE);
	munmap(to, 8 * PAGE);
}

static void __attribute__((noreturn)) stuck(struct worker *w)
{
	for (unsigned int t = 0; t < conf.threads; t++) {
		struct worker *o = &sh->worker[t];

		tell("thread %u, step %llu: %s(%#x,%#x,%#x,%#x)\n", t, (unsigned long long)o->step,
		     op_table[o->now.kind].name, o->now.a, o->now.b, o->now.c, o->now.d);
		tell_last(o, now_ns());
	}
	broken(w, NULL, "nothing happens for %d s", STUCK_S);
}

static void watch(void)
{
	uint64_t seen[THREADS] = { 0 }, since[THREADS];
	unsigned int over;

	for (unsigned int t = 0; t < THREADS; t++)
		since[t] = now_ns();
	do {
		usleep(20000);
		over = 0;
		for (unsigned int t = 0; t < conf.threads; t++) {
			struct worker *w = &sh->worker[t];
			uint64_t n = __atomic_load_n(&w->step, __ATOMIC_RELAXED) +
				     __atomic_load_n(&w->pulse, __ATOMIC_RELAXED);

			over += __atomic_load_n(&w->over, __ATOMIC_ACQUIRE);
			if (n != seen[t] || w->over)
				since[t] = now_ns();
			seen[t] = n;
			if (now_ns() - since[t] > STUCK_S * 1000000000ull)
				stuck(w);
		}
		if (__atomic_load_n(&sh->failed, __ATOMIC_SEQ_CST))
			usleep(3000000);	/* a child tells; it may be killed */
		if (__atomic_load_n(&sh->failed, __ATOMIC_SEQ_CST))
			_exit(1);
	} while (over < conf.threads);
}

static void tell_counts(void)
{
	uint64_t steps = 0, n;
	char line[1024];
	int len = 0;

	for (unsigned int i = 0; i < OPS; i++) {
		n = 0;
		for (unsigned int t = 0; t < conf.threads; t++)
			n += sh->worker[t].count[i];
		steps += n;
		len += snprintf(line + len, sizeof(line) - len, " %s %llu", op_table[i].name,
				(unsigned long long)n);
	}
	printf("steps:%s\n", line);
	printf("%llu steps\n", (unsigned long long)steps);
}

static double number(const char *name, double otherwise)
{
	const char *s = getenv(name);

	return s && *s ? atof(s) : otherwise;
}

int main(int argc, char **argv)
{
	const char *s = argc > 1 ? argv[1] : getenv("ZD_SEED");
	pthread_t thread[THREADS];

	conf.seed = s && *s ? strtoull(s, NULL, 0) : now_ns() % 1000000000;
	conf.seconds = argc > 2 ? atof(argv[2]) : number("ZD_SECONDS", 10);
	conf.threads = number("ZD_THREADS", 4);
	conf.any_errno = !number("ZD_ERRNO", 1);
	if (conf.threads < 1 || conf.threads > THREADS)
		conf.threads = 4;
	choose(strdup(getenv("ZD_OPS") && *getenv("ZD_OPS") ? getenv("ZD_OPS") : "all"));
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed %llu\n", (unsigned long long)conf.seed);
	/* many blocks are mappings, and arenas shrink */
	mallopt(M_MMAP_THRESHOLD, 4096);
	mallopt(M_MMAP_MAX, 60000);
	mallopt(M_TRIM_THRESHOLD, 65536);
	mallopt(M_TOP_PAD, 0);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		return perror("fuzz_mm: mmap"), 2;
	catch_signals();
	probe();
	for (unsigned int t = 0; t < conf.threads; t++) {
		struct worker *w = &sh->worker[t];

		w->id = t;
		w->rng = (conf.seed * THREADS + t + 1) * 0x9e3779b97f4a7c15ull | 1;
		if (pthread_create(&thread[t], NULL, work, w))
			return perror("fuzz_mm: pthread_create"), 2;
	}
	watch();
	for (unsigned int t = 0; t < conf.threads; t++)
		pthread_join(thread[t], NULL);
	tell_counts();
	return 0;
}
