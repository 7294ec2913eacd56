/* SPDX-License-Identifier: MIT */
/* zd_mm_close() and zd_mm_unregister() bring everything home and leave ordinary
 * memory behind; a device can serve again. */
#include "tests/integration/lib_gate.h"

#define N 700

static struct gate *g;
static char *mem;
static int go[2];

static void works_as_ever(char *p, uint64_t tag)
{
	CHECK_FILLED(p, N, tag);
	CHECK(!madvise(p, N * PAGE, MADV_DONTNEED));	/* sends no event: no server is left */
	CHECK(is_zero(p, N * PAGE));
	CHECK(!munmap(p, N * PAGE));
}

static void closed(void)
{
	for (int i = 0; i < 3; i++) {
		struct zd_mm *mm = open_mm();
		char *p = evicted(mm, N, i, &g->dev), *q = map(N);

		CHECK_EQ(zd_mm_register(mm, q, N * PAGE), 0);	/* never touched */
		CHECK_EQ(zd_mm_close(mm), 0);
		CHECK_EQ(gate_used(g), 0);
		CHECK_EQ(resident(p, N), N);
		CHECK(is_zero(q, N * PAGE));
		works_as_ever(p, i);
		munmap(q, N * PAGE);
	}
}

static void unregistered(void)
{
	struct zd_mm *mm = open_mm();
	char *p = evicted(mm, N, 5, &g->dev);

	CHECK_EQ(zd_mm_unregister(mm, p + 100 * PAGE, 200 * PAGE), 0);
	CHECK_EQ(gate_used(g), N - 200);
	CHECK_EQ(resident(p, N), 200);
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, &g->dev, NULL), -EINVAL);
	CHECK_EQ(zd_mm_unregister(mm, p, N * PAGE), 0);
	CHECK_EQ(zd_mm_unregister(mm, p, N * PAGE), 0);		/* twice is once */
	CHECK_EQ(gate_used(g), 0);
	works_as_ever(p, 5);
	CHECK_EQ(zd_mm_close(mm), 0);
}

/* While pages are in flight home. */
static void *closer(void *arg)
{
	CHECK_EQ(zd_mm_close(arg), 0);
	return NULL;
}

static void in_flight(void)
{
	struct zd_mm *mm = open_mm();
	char *p = evicted(mm, N, 6, &g->dev);
	pthread_t thread;

	gate_close(g);
	CHECK(!pthread_create(&thread, NULL, closer, mm));
	WAIT_FOR(gate_waiting(g));
	gate_open(g);
	CHECK(!pthread_join(thread, NULL));
	CHECK_EQ(gate_used(g), 0);
	works_as_ever(p, 6);
}

/* Batches that land while zd_mm_close() looks for more: the call must not wait for a landing
 * that has happened.  The first batch waits at the gate until the second comes. */
static void landed_meanwhile(void)
{
	struct zd_mm *mm = open_mm();
	char *p = evicted(mm, 1024, 8, &g->dev);

	gate_close(g);
	__atomic_store_n(&g->pairs, true, __ATOMIC_RELEASE);
	CHECK_EQ(zd_migrate_to_ram(mm, p, 1024 * PAGE, NULL), 0);
	CHECK_EQ(gate_used(g), 0);
	__atomic_store_n(&g->pairs, false, __ATOMIC_RELEASE);
	gate_open(g);
	CHECK_FILLED(p, 1024, 8);
	CHECK_EQ(zd_mm_close(mm), 0);
	munmap(p, 1024 * PAGE);
}

/* A child that lives on has its pages, and its memory and the parent's work as ever, though
 * the child has inherited the parent's descriptors. */
static void child(void *arg)
{
	char c;

	(void)arg;
	CHECK_EQ(read(go[0], &c, 1), 1);
	CHECK(is_zero(mem + N * PAGE, N * PAGE));
	works_as_ever(mem, 7);
}

static void idle(void *arg)
{
	char c;

	(void)arg;
	CHECK_EQ(read(go[0], &c, 1), 1);
}

static void with_children(void)
{
	struct zd_mm *mm = open_mm();
	pid_t pid, other;

	CHECK(!pipe(go));
	mem = map(2 * N);
	fill(mem, N, 7);
	CHECK_EQ(zd_mm_register(mm, mem, 2 * N * PAGE), 0);
	evict(mm, mem, N, &g->dev);
	pid = child_start(child, NULL);
	other = child_start(idle, NULL);
	CHECK_EQ(zd_mm_close(mm), 0);
	usleep(50000);		/* time enough for a guard that takes the close for a death */
	CHECK_EQ(gate_used(g), 0);
	CHECK(is_zero(mem + N * PAGE, N * PAGE));
	works_as_ever(mem, 7);
	CHECK_EQ(write(go[1], "12", 2), 2);
	child_ok(pid);
	child_ok(other);
	munmap(mem + N * PAGE, N * PAGE);
}

int main(void)
{
	alarm(5 * PATIENCE);
	g = gate_device(2 * N);
	closed();
	unregistered();
	in_flight();
	landed_meanwhile();
	with_children();
	CHECK_EQ(zd_device_unregister(&g->dev), 0);
	return 0;
}
