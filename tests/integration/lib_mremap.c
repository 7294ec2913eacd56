/* SPDX-License-Identifier: MIT */
/* mremap of memory with device pages keeps its content, in each of its forms,
 * also while pages are in flight. */
#include "tests/integration/lib_gate.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define N	200
#define BIG	1200	/* pages: three batches */

static struct zd_mm *mm;
static struct gate *g;

/* Room for @pages, mapped, so that no other mapping comes there until an mremap takes it
 * over. */
static char *place(size_t pages)
{
	char *p = map(pages);

	CHECK(!mprotect(p, pages * PAGE, PROT_NONE));
	return p;
}

static void moved(void)
{
	char *p = evicted(mm, N, 1, &g->dev);
	char *to = place(N);
	char *q = mremap(p, N * PAGE, N * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	CHECK(q == to);
	CHECK_EQ(gate_used(g), N);
	CHECK_FILLED(q, N, 1);
	settle(mm);
	CHECK_EQ(gate_used(g), 0);
	evict(mm, q, N, &g->dev);	/* the memory is managed at its new place */
	/* the old place is free for another mapping */
	CHECK(mmap(p, N * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == p);
	CHECK(is_zero(p, N * PAGE));
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, &g->dev, NULL), -EINVAL);
	CHECK_FILLED(q, N, 1);
	munmap(p, N * PAGE);
	munmap(q, N * PAGE);
}

static void grown(void)
{
	char *big = place(3 * N);
	char *p = mmap(big, N * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	char *q;

	CHECK(p == big);
	fill(p, N, 1);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	evict(mm, p, N, &g->dev);
	CHECK(!munmap(p + N * PAGE, 2 * N * PAGE));
	CHECK(mremap(p, N * PAGE, 2 * N * PAGE, 0) == p);	/* in place */
	CHECK(is_zero(p + N * PAGE, N * PAGE));
	CHECK_FILLED(p, N, 1);
	fill(p, 2 * N, 2);
	CHECK_EQ(zd_mm_register(mm, p, 2 * N * PAGE), 0);
	evict(mm, p, 2 * N, &g->dev);
	/* grown and moved, as realloc does */
	q = mmap(p + 2 * N * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(q != MAP_FAILED);
	q = mremap(p, 2 * N * PAGE, 3 * N * PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q != p);
	CHECK(is_zero(q + 2 * N * PAGE, N * PAGE));
	CHECK_FILLED(q, 2 * N, 2);
	munmap(q, 3 * N * PAGE);
	munmap(p + 2 * N * PAGE, PAGE);
}

static void shrunk(void)
{
	char *p = evicted(mm, N, 1, &g->dev);

	CHECK(mremap(p, N * PAGE, N / 2 * PAGE, 0) == p);
	WAIT_FOR(gate_used(g) == N / 2);
	CHECK_FILLED(p, N / 2, 1);
	munmap(p, N / 2 * PAGE);
}

static void dontunmap(void)
{
	char *p = evicted(mm, N, 1, &g->dev);
	char *q = mremap(p, N * PAGE, N * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);

	CHECK(q != MAP_FAILED);
	CHECK(is_zero(p, N * PAGE));
	CHECK_FILLED(q, N, 1);
	settle(mm);
	CHECK_EQ(gate_used(g), 0);
	fill(p, N, 2);
	CHECK_FILLED(p, N, 2);
	munmap(p, N * PAGE);
	munmap(q, N * PAGE);
}

static void over_another(void)
{
	char *p = evicted(mm, N, 1, &g->dev);
	char *q = evicted(mm, N, 2, &g->dev);

	CHECK(mremap(p, N / 2 * PAGE, N / 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q);
	WAIT_FOR(gate_used(g) == 2 * N - N / 2);	/* the pages that were there are gone */
	CHECK_FILLED(q, N / 2, 1);
	CHECK_EQ(bad_page(q, N / 2, N, 2), N);
	CHECK_EQ(bad_page(p, N / 2, N, 1), N);
	munmap(p + N / 2 * PAGE, (N - N / 2) * PAGE);
	munmap(q, N * PAGE);
}

/* --- in flight --- */

static sigjmp_buf segv_jmp;

static void segv(int sig)
{
	(void)sig;
	siglongjmp(segv_jmp, 1);
}

struct faller {
	volatile char *addr;
	bool fell, done;
};

static void *faller_thread(void *arg)
{
	struct faller *f = arg;

	if (!sigsetjmp(segv_jmp, 1))
		(void)*f->addr;
	else
		f->fell = true;
	__atomic_store_n(&f->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void while_going_out(void)
{
	struct migration m = { .mm = mm, .pages = N, .dev = &g->dev };
	struct toucher t;
	char *p = m.mem = map(N), *to = place(N);

	fill(p, N, 1);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	migration_start(&m);
	/* a page that has been taken back moves as any other */
	toucher_start(&t, mm, p + 3 * PAGE);
	CHECK_EQ(toucher_join(&t), word(1, 3, 0));
	CHECK(mremap(p, N * PAGE, N * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	/* and one that the device has yet comes to its new place */
	toucher_start(&t, mm, to + 5 * PAGE);
	CHECK_EQ(toucher_join(&t), word(1, 5, 0));
	CHECK(gate_waiting(g));
	migration_finish(&m);
	CHECK_FILLED(to, N, 1);
	WAIT_FOR(!gate_used(g));
	munmap(to, N * PAGE);
}

/* A migration of several batches goes on after its first batch's old addresses, not where
 * the pages of that batch have gone. */
static void behind_a_batch(void)
{
	struct migration m = { .mm = mm, .pages = BIG, .dev = &g->dev };
	/* far below where the first batch goes to */
	char *p = m.mem = mmap((void *)0x100000000000, BIG * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *to = place(512);

	CHECK(p != MAP_FAILED);
	fill(p, BIG, 1);
	CHECK_EQ(zd_mm_register(mm, p, BIG * PAGE), 0);
	migration_start(&m);
	CHECK(mremap(p, 512 * PAGE, 512 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	migration_finish(&m);
	CHECK_EQ(m.result.moved, BIG);
	CHECK_EQ(resident(to, 512), 0);
	CHECK_EQ(resident(p + 512 * PAGE, BIG - 512), 0);
	CHECK_FILLED(to, 512, 1);
	CHECK_EQ(bad_page(p, 512, BIG, 1), BIG);
	munmap(to, 512 * PAGE);
	munmap(p + 512 * PAGE, (BIG - 512) * PAGE);
}

/* A thread that waits for a page which moves away gets what is at the address then. */
static void moved_away_from_a_thread(void)
{
	char *p = evicted(mm, N, 1, &g->dev), *to = place(N);
	struct faller f = { .addr = p + 3 * PAGE };
	uint64_t faults = stats(mm).faults;
	pthread_t thread;

	gate_close(g);
	signal(SIGSEGV, segv);
	CHECK(!pthread_create(&thread, NULL, faller_thread, &f));
	WAIT_FOR(stats(mm).faults > faults);
	CHECK(mremap(p, N * PAGE, N * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	WAIT_FOR(__atomic_load_n(&f.done, __ATOMIC_ACQUIRE));
	pthread_join(thread, NULL);
	CHECK(f.fell);
	signal(SIGSEGV, SIG_DFL);
	gate_open(g);
	CHECK_FILLED(to, N, 1);
	WAIT_FOR(!gate_used(g));
	munmap(to, N * PAGE);
}

/* The pages all around one that a thread waits for. */
static void while_coming_home(void)
{
	char *p = evicted(mm, N, 1, &g->dev), *to = place(N);
	struct toucher t;

	gate_close(g);
	toucher_start(&t, mm, p + 9 * PAGE);
	WAIT_FOR(gate_waiting(g));
	CHECK(mremap(p, 9 * PAGE, 9 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	CHECK(mremap(p + 10 * PAGE, (N - 10) * PAGE, (N - 10) * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     to + 10 * PAGE) == to + 10 * PAGE);
	CHECK(gate_waiting(g));
	gate_open(g);
	CHECK_EQ(toucher_join(&t), word(1, 9, 0));
	CHECK(mremap(p + 9 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 9 * PAGE) ==
	      to + 9 * PAGE);
	CHECK_FILLED(to, N, 1);
	WAIT_FOR(!gate_used(g));
	munmap(to, N * PAGE);
}

static void *bring_home(void *arg)
{
	char *p = arg;

	/* the pages move away meanwhile: whatever the call finds is fine */
	zd_migrate_to_ram(mm, p, N * PAGE, NULL);
	return NULL;
}

static void page_in_flight_home(void)
{
	char *p = evicted(mm, N, 1, &g->dev), *to = place(N);
	pthread_t thread;

	gate_close(g);
	CHECK(!pthread_create(&thread, NULL, bring_home, p));
	WAIT_FOR(gate_waiting(g));
	CHECK(mremap(p, N * PAGE, N * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	CHECK(gate_waiting(g));
	gate_open(g);
	pthread_join(thread, NULL);
	CHECK_FILLED(to, N, 1);
	WAIT_FOR(!gate_used(g));
	munmap(to, N * PAGE);
}

int main(void)
{
	mm = open_mm();
	g = gate_device(BIG);
	moved();
	grown();
	shrunk();
	dontunmap();
	over_another();
	while_going_out();
	behind_a_batch();
	moved_away_from_a_thread();
	while_coming_home();
	page_in_flight_home();
	close_mm(mm, &g->dev);
	return 0;
}
