/* SPDX-License-Identifier: MIT */
/*
 * A device that has batches and doesn't answer: only what lies on it is waited for.  A page that
 * is on its way out is taken back from the batch, and no other fault takes notice.
 */
#include <sys/prctl.h>

#include "tests/integration/lib_gate.h"

#define N	300
#define READERS	80	/* more than a device is given batches to read */

static struct zd_mm *mm;
static struct gate *g;

static char *filled(size_t pages, uint64_t tag)
{
	char *p = map(pages);

	fill(p, pages, tag);
	CHECK_EQ(zd_mm_register(mm, p, pages * PAGE), 0);
	return p;
}

/* All pages of a stalled batch, read and written: what the device makes of its copy is
 * nothing to them. */
static void touched_on_the_way_out(int write_error)
{
	struct migration m = { .mm = mm, .mem = filled(N, 1), .pages = N, .dev = &g->dev };

	migration_start(&m);
	CHECK_FILLED(m.mem, N, 1);
	fill(m.mem, N, 2);
	CHECK_EQ(resident(m.mem, N), N);
	CHECK_EQ(gate_waiting(g), 1);
	gate_error(g, ZD_TO_DEVICE, write_error);
	migration_finish(&m);
	gate_error(g, ZD_TO_DEVICE, 0);
	CHECK_EQ(m.result.moved, 0);
	CHECK_EQ(m.result.busy + m.result.device, N);
	CHECK_EQ(gate_used(g), 0);
	CHECK_EQ(stats(mm).pages_device, 0);
	CHECK_FILLED(m.mem, N, 2);
	evict(mm, m.mem, N, &g->dev);	/* and can go as any other */
	CHECK_FILLED(m.mem, N, 2);
	WAIT_FOR(!gate_used(g));
	munmap(m.mem, N * PAGE);
}

/* Pages that no thread has asked back go on. */
static void some_touched(void)
{
	struct migration m = { .mm = mm, .mem = filled(N, 3), .pages = N, .dev = &g->dev };
	char *p = m.mem;

	migration_start(&m);
	CHECK_EQ(bad_page(p, 100, 110, 3), 110);
	CHECK_EQ(resident(p, N), 10);
	CHECK(!munmap(p + 105 * PAGE, 10 * PAGE));	/* of both kinds */
	migration_finish(&m);
	CHECK_EQ(m.result.busy, 10);
	CHECK_EQ(gate_used(g), N - 15);
	CHECK_EQ(stats(mm).pages_device, N - 15);
	CHECK_EQ(bad_page(p, 0, 105, 3), 105);
	CHECK_EQ(bad_page(p, 115, N, 3), N);
	WAIT_FOR(!gate_used(g));
	munmap(p, N * PAGE);
}

static void verify_and_write(void *p)
{
	CHECK_FILLED((char *)p, N, 4);
	fill(p, N, 40);
	CHECK_FILLED((char *)p, N, 40);
}

/* A child that was forked from a stalled batch has its own copy. */
static void in_a_child(void)
{
	struct migration m = { .mm = mm, .mem = filled(N, 4), .pages = N, .dev = &g->dev };

	migration_start(&m);
	child_ok(child_start(verify_and_write, m.mem));
	CHECK_EQ(bad_page(m.mem, 0, 20, 4), 20);
	child_ok(child_start(verify_and_write, m.mem));
	CHECK_EQ(gate_waiting(g), 1);
	migration_finish(&m);
	CHECK_EQ(m.result.moved, N - 20);
	CHECK_FILLED(m.mem, N, 4);
	WAIT_FOR(!gate_used(g));
	munmap(m.mem, N * PAGE);
}

/* zd_migrate_to_ram() and zd_mm_unregister() need no answer of the device either. */
static void called_back(void)
{
	struct migration m = { .mm = mm, .mem = filled(N, 5), .pages = N, .dev = &g->dev };

	migration_start(&m);
	CHECK_EQ(zd_migrate_to_ram(mm, m.mem, N / 2 * PAGE, NULL), 0);
	CHECK_EQ(resident(m.mem, N), N / 2);
	CHECK_EQ(zd_mm_unregister(mm, m.mem, N * PAGE), 0);
	CHECK_FILLED(m.mem, N, 5);
	CHECK_EQ(gate_waiting(g), 1);
	migration_finish(&m);
	CHECK_EQ(gate_used(g), 0);
	CHECK_FILLED(m.mem, N, 5);
	munmap(m.mem, N * PAGE);
}

/* Threads wait for pages that lie on the device, as many as have a batch each and more; no other
 * fault waits for them. */
static void stalled_reads(void)
{
	static struct toucher t[READERS];
	char *p = evicted(mm, 8 * READERS, 6, &g->dev), *other = map(N);
	struct zd_migrate_result r;

	CHECK_EQ(zd_mm_register(mm, other, N * PAGE), 0);
	gate_close(g);
	for (int i = 0; i < READERS; i++)
		toucher_start(&t[i], mm, p + 8 * i * PAGE);
	fill(other, N, 7);
	CHECK_EQ(zd_migrate_to_ram(mm, other, N * PAGE, &r), 0);
	CHECK_FILLED(other, N, 7);
	for (int i = 0; i < READERS; i++)
		CHECK(!toucher_done(&t[i]));
	gate_open(g);
	for (int i = 0; i < READERS; i++)
		CHECK_EQ(toucher_join(&t[i]), word(6, 8 * i, 0));
	CHECK_FILLED(p, 8 * READERS, 6);
	WAIT_FOR(!gate_used(g));
	munmap(p, 8 * READERS * PAGE);
	munmap(other, N * PAGE);
}

/* Every third page is zeros, and goes nowhere: pfns in a row have buffers in a row all the same
 * (gate_check()), also where the driver gives out its pages in another order. */
static void holes_in_the_batch(void)
{
	struct zd_migrate_result r;
	char *p;

	for (int round = 0; round < 2; round++) {
		p = filled(N, 10);
		for (int i = 1; i < N; i += 3)
			memset(p + i * PAGE, 0, PAGE);
		g->swaps = round;
		migrate_out(mm, p, N * PAGE, N - N / 3, &g->dev, &r);
		CHECK_EQ(r.zero, N / 3);
		for (int i = 0; i < N; i++)
			CHECK(i % 3 == 1 ? is_zero(p + i * PAGE, PAGE) :
					   bad_page(p, i, i + 1, 10) == (size_t)i + 1);
		WAIT_FOR(!gate_used(g));
		munmap(p, N * PAGE);
	}
	g->swaps = false;
}

static unsigned int lines_late, lines_again;	/* __atomic */

static void count_lines(enum zd_log_level level, const char *text, void *ctx)
{
	(void)level;
	(void)ctx;
	if (strstr(text, "gate: hasn't answered for"))
		__atomic_add_fetch(&lines_late, 1, __ATOMIC_RELAXED);
	if (strstr(text, "gate: answers again"))
		__atomic_add_fetch(&lines_again, 1, __ATOMIC_RELAXED);
}

static void *close_thread(void *arg)
{
	(void)arg;
	CHECK_EQ(zd_mm_close(mm), 0);
	return NULL;
}

/* A close must wait for the device, which has the buffers; the log says what it waits for. */
static void closed(void)
{
	struct migration m = { .mm = mm, .mem = filled(N, 8), .pages = N, .dev = &g->dev };
	pthread_t thread;

	zd_set_log(count_lines, NULL);
	migration_start(&m);
	CHECK_FILLED(m.mem, N, 8);
	WAIT_FOR(__atomic_load_n(&lines_late, __ATOMIC_RELAXED));
	migration_finish(&m);
	WAIT_FOR(__atomic_load_n(&lines_again, __ATOMIC_RELAXED));
	CHECK_EQ(__atomic_load_n(&lines_late, __ATOMIC_RELAXED), 1);
	CHECK_EQ(__atomic_load_n(&lines_again, __ATOMIC_RELAXED), 1);
	evict(mm, m.mem, N, &g->dev);
	gate_close(g);
	CHECK_EQ(pthread_create(&thread, NULL, close_thread, NULL), 0);
	WAIT_FOR(__atomic_load_n(&lines_late, __ATOMIC_RELAXED) == 2);
	gate_open(g);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_FILLED(m.mem, N, 8);
	CHECK_EQ(gate_used(g), 0);
	CHECK_EQ(zd_device_unregister(&g->dev), 0);
	munmap(m.mem, N * PAGE);
}

/* --- the end of a program, whose device never answers again --- */

static int go[2];

/* Outlives the program, and has what it shared with it. */
static void heir(void *p)
{
	char c;

	close(go[1]);
	CHECK_EQ(read(go[0], &c, 1), 0);	/* the program has ended */
	CHECK_FILLED((char *)p, N, 9);
}

static void program(void *status_fd)
{
	static struct migration m;
	pid_t child;

	mm = open_mm();
	g = gate_device(2 * N);
	m = (struct migration){ .mm = mm, .mem = filled(N, 9), .pages = N, .dev = &g->dev };
	migration_start(&m);
	CHECK(!pipe(go));
	child = child_start(heir, m.mem);
	CHECK_EQ(write((int)(intptr_t)status_fd, &child, sizeof(child)), sizeof(child));
	exit(0);
}

/* Not _exit(): at exit(3) children get what they share with the program. */
static void program_ends(void)
{
	int fds[2];
	pid_t pid, child;

	CHECK(!pipe(fds));
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	pid = child_start(program, (void *)(intptr_t)fds[1]);
	CHECK_EQ(read(fds[0], &child, sizeof(child)), sizeof(child));
	child_ok(pid);
	child_ok(child);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	program_ends();
	mm = open_mm();
	g = gate_device(8 * READERS + N);
	touched_on_the_way_out(0);
	touched_on_the_way_out(-EIO);
	some_touched();
	in_a_child();
	called_back();
	stalled_reads();
	holes_in_the_batch();
	closed();
	return 0;
}
