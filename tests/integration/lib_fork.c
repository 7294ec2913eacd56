/* SPDX-License-Identifier: MIT */
/* Children and the parent's evicted pages. */
#include "tests/integration/lib_gate.h"

#define N 300

static struct zd_mm *mm;
static struct gate *g;
static char *mem;

static void verify(void *tag)
{
	CHECK_FILLED(mem, N, (uintptr_t)tag);
}

static void grandchild(void *tag)
{
	/* some pages come home here, the grandchild has the others */
	CHECK_EQ(bad_page(mem, N / 2, N, (uintptr_t)tag), N);
	child_ok(child_start(verify, tag));
	verify(tag);
}

static void write_own(void *arg)
{
	(void)arg;
	verify((void *)1);
	fill(mem, N, 77);
	CHECK_FILLED(mem, N, 77);
}

static void overwrite(void *arg)	/* without reading first */
{
	(void)arg;
	memset(mem, 5, N * PAGE);
	for (size_t i = 0; i < N * PAGE; i++)
		CHECK(mem[i] == 5);
}

static void reads(void)
{
	mem = evicted(mm, N, 1, &g->dev);
	child_ok(child_start(verify, (void *)1));
	CHECK_EQ(zd_device_live_pages(&g->dev), N);	/* the parent's pages didn't go */
	child_ok(child_start(grandchild, (void *)1));
	child_ok(child_start(write_own, NULL));
	child_ok(child_start(overwrite, NULL));
	CHECK_EQ(zd_device_live_pages(&g->dev), N);
	CHECK_FILLED(mem, N, 1);
	settle(mm);
	CHECK_EQ(zd_device_live_pages(&g->dev), 0);
	munmap(mem, N * PAGE);
}

/* --- what the child doesn't get --- */

static void wiped(void *tag)
{
	(void)tag;
	for (size_t i = 10 * PAGE; i < 20 * PAGE; i++)
		CHECK(!mem[i]);
	CHECK_EQ(bad_page(mem, 0, 10, 1), 10);
	CHECK_EQ(bad_page(mem, 20, N, 1), N);
}

static void wiped_for_all(void *tag)
{
	child_ok(child_start(wiped, tag));	/* before this process has looked */
	wiped(tag);
	memset(mem + 10 * PAGE, 7, 10 * PAGE);
}

static void wipe(void)
{
	mem = evicted(mm, N, 1, &g->dev);
	CHECK(!madvise(mem + 10 * PAGE, 10 * PAGE, MADV_WIPEONFORK));
	child_ok(child_start(wiped_for_all, NULL));
	CHECK_FILLED(mem, N, 1);
	settle(mm);
	CHECK_EQ(zd_device_live_pages(&g->dev), 0);
	munmap(mem, N * PAGE);
}

/* --- what the parent does after the fork is the parent's --- */

static int go[2];

static void verify_later(void *tag)
{
	char c;

	CHECK_EQ(read(go[0], &c, 1), 1);
	verify(tag);
}

static void verify_rest_later(void *tag)
{
	char c;

	CHECK_EQ(read(go[0], &c, 1), 1);
	CHECK_EQ(bad_page(mem, 10, N, (uintptr_t)tag), N);
}

static void apart(void)
{
	pid_t pid;

	CHECK(!pipe(go));
	mem = evicted(mm, N, 1, &g->dev);
	pid = child_start(verify_later, (void *)1);
	fill(mem, N, 2);
	munmap(mem, N / 2 * PAGE);
	CHECK_EQ(zd_device_live_pages(&g->dev), N);	/* the child has the pages */
	CHECK_EQ(write(go[1], "", 1), 1);
	child_ok(pid);
	settle(mm);
	CHECK_EQ(zd_device_live_pages(&g->dev), 0);
	CHECK_EQ(bad_page(mem, N / 2, N, 2), N);
	munmap(mem + N / 2 * PAGE, (N - N / 2) * PAGE);

	/* a child that lacks a part of the memory has the rest */
	mem = evicted(mm, N, 4, &g->dev);
	CHECK(!madvise(mem, 10 * PAGE, MADV_DONTFORK));
	pid = child_start(verify_rest_later, (void *)4);
	munmap(mem, N * PAGE);
	CHECK_EQ(write(go[1], "", 1), 1);
	child_ok(pid);
	settle(mm);
	WAIT_FOR(!zd_device_live_pages(&g->dev));

	/* the pages of a child that is killed are freed */
	mem = evicted(mm, N, 3, &g->dev);
	pid = child_start(verify_later, (void *)3);
	munmap(mem, N * PAGE);
	usleep(1000);
	CHECK_EQ(zd_device_live_pages(&g->dev), N);
	CHECK(!kill(pid, SIGKILL));
	CHECK_EQ(child_status(pid), SIGKILL);
	WAIT_FOR(!zd_device_live_pages(&g->dev));
	close(go[0]);
	close(go[1]);
}

/* --- fork while pages are on their way out, and home --- */

static void in_flight_out(int error)
{
	struct migration m = { .mm = mm, .pages = N, .dev = &g->dev };
	pid_t late, early;

	m.mem = mem = map(N);
	fill(mem, N, 4);
	CHECK_EQ(zd_mm_register(mm, mem, N * PAGE), 0);
	migration_start(&m);
	early = child_start(verify, (void *)4);	/* the child's faults wait at the gate */
	late = child_start(grandchild, (void *)4);
	if (error)
		gate_error(g, ZD_TO_DEVICE, error);
	migration_finish(&m);
	gate_error(g, ZD_TO_DEVICE, 0);
	CHECK_EQ(m.result.moved, error ? 0 : N);
	CHECK_EQ(m.result.device, error ? N : 0);
	child_ok(early);
	child_ok(late);
	CHECK_FILLED(mem, N, 4);
	WAIT_FOR(!gate_used(g));
	munmap(mem, N * PAGE);
}

static void in_flight_home(void)
{
	struct toucher t;
	pid_t pid;

	mem = evicted(mm, N, 5, &g->dev);
	gate_close(g);
	toucher_start(&t, mm, mem + 7 * PAGE);
	pid = child_start(verify, (void *)5);
	gate_open(g);
	CHECK_EQ(toucher_join(&t), word(5, 7, 0));
	child_ok(pid);
	CHECK_FILLED(mem, N, 5);
	WAIT_FOR(!gate_used(g));
	munmap(mem, N * PAGE);
}

int main(void)
{
	mm = open_mm();
	g = gate_device(4 * N);
	reads();
	wipe();
	apart();
	in_flight_out(0);
	in_flight_out(-EIO);
	in_flight_home();
	close_mm(mm, &g->dev);
	return 0;
}
