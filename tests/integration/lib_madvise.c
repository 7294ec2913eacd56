/* SPDX-License-Identifier: MIT */
/* madvise(MADV_DONTNEED) on device pages, and on pages in flight: they read as zeros
 * afterwards, device pages are freed, no thread is left waiting, no old content comes back. */
#include "tests/integration/lib_gate.h"

#define N 200

static struct zd_mm *mm;
static struct gate *g;

static void dontneed(void)
{
	char *p = evicted(mm, N, 1, &g->dev);

	CHECK(!madvise(p + 50 * PAGE, 100 * PAGE, MADV_DONTNEED));
	WAIT_FOR(gate_used(g) == N - 100);	/* without any touch */
	CHECK(is_zero(p + 50 * PAGE, 100 * PAGE));
	CHECK_EQ(bad_page(p, 0, 50, 1), 50);
	CHECK_EQ(bad_page(p, 150, N, 1), N);
	settle(mm);
	CHECK_EQ(gate_used(g), 0);
	/* the memory can be used as any other */
	fill(p, N, 2);
	evict(mm, p, N, &g->dev);
	CHECK_FILLED(p, N, 2);
	munmap(p, N * PAGE);
}

/* MADV_FREE may keep a page that is in RAM; a device page may go or stay. */
static void freed(void)
{
	char *p = evicted(mm, N, 1, &g->dev);
	struct zd_migrate_result r;

	CHECK(!madvise(p, N * PAGE, MADV_FREE));
	for (size_t i = 0; i < N; i++) {
		uint64_t v = *(volatile uint64_t *)(p + i * PAGE);

		CHECK(v == 0 || v == word(1, i, 0));
	}
	WAIT_FOR(!gate_used(g));
	fill(p, N, 2);
	CHECK(!madvise(p, N * PAGE, MADV_FREE));
	fill(p, N, 3);		/* written since: must not be lost, whether it goes or not */
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, &g->dev, &r), 0);
	CHECK_EQ(r.moved + r.busy, N);
	CHECK_FILLED(p, N, 3);
	munmap(p, N * PAGE);
}

/* The kernel tells of a madvise before it takes the pages away.  The old content of a page
 * that is moved out in between must not come back. */
static bool stop;

static void *evict_for_ever(void *p)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		zd_migrate_to_device(mm, p, N * PAGE, &g->dev, NULL);
	return NULL;
}

static void raced(void)
{
	char *p = map(N);
	pthread_t thread;
	double until = now() + 2;

	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	CHECK(!pthread_create(&thread, NULL, evict_for_ever, p));
	while (now() < until) {
		fill(p, 32, 4);
		CHECK(!madvise(p, 32 * PAGE, MADV_DONTNEED));
		CHECK(is_zero(p, 32 * PAGE));
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	CHECK(!pthread_join(thread, NULL));
	munmap(p, N * PAGE);
}

static void while_going_out(void)
{
	struct migration m = { .mm = mm, .pages = N, .dev = &g->dev };
	struct toucher t;
	char *p = m.mem = map(N);

	fill(p, N, 1);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	migration_start(&m);
	/* a thread has page 60 back, whose content then is given up */
	toucher_start(&t, mm, p + 60 * PAGE);
	CHECK_EQ(toucher_join(&t), word(1, 60, 0));
	CHECK(!madvise(p + 50 * PAGE, 100 * PAGE, MADV_DONTNEED));
	CHECK(is_zero(p + 50 * PAGE, 50 * PAGE));
	fill(p + 100 * PAGE, 20, 2);
	CHECK(gate_waiting(g));		/* the gate was closed all the time */
	migration_finish(&m);
	WAIT_FOR(gate_used(g) == N - 100);
	CHECK(is_zero(p + 50 * PAGE, 50 * PAGE));
	CHECK_FILLED(p + 100 * PAGE, 20, 2);
	CHECK(is_zero(p + 120 * PAGE, 30 * PAGE));
	CHECK_EQ(bad_page(p, 0, 50, 1), 50);
	CHECK_EQ(bad_page(p, 150, N, 1), N);
	WAIT_FOR(!gate_used(g));
	munmap(p, N * PAGE);
}

static void while_coming_home(void)
{
	char *p = evicted(mm, N, 1, &g->dev);
	struct toucher t;

	gate_close(g);
	toucher_start(&t, mm, p + 10 * PAGE);
	WAIT_FOR(gate_waiting(g));
	CHECK(!madvise(p, N * PAGE, MADV_DONTNEED));
	CHECK_EQ(toucher_join(&t), 0);
	fill(p, N, 2);
	CHECK(gate_waiting(g));
	gate_open(g);
	WAIT_FOR(!gate_waiting(g) && !gate_used(g));
	CHECK_FILLED(p, N, 2);
	munmap(p, N * PAGE);
}

int main(void)
{
	mm = open_mm();
	g = gate_device(2 * N);
	dontneed();
	freed();
	raced();
	while_going_out();
	while_coming_home();
	close_mm(mm, &g->dev);
	return 0;
}
