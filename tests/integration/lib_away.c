/* SPDX-License-Identifier: MIT */
/*
 * A device that can't be reached for a while (-EAGAIN): what is on it is waited for, whoever
 * asks without need is told so, and nothing is lost; what was to go there stays.
 */
#include "tests/integration/lib_gate.h"

#define N	64
#define ASKS	6	/* so often in vain, at least */

static struct zd_mm *mm;
static struct gate *g;
static unsigned int lines_away, lines_back;	/* __atomic */

static void count_lines(enum zd_log_level level, const char *text, void *ctx)
{
	(void)level;
	(void)ctx;
	if (strstr(text, "can't be reached: what is on it"))
		__atomic_add_fetch(&lines_away, 1, __ATOMIC_RELAXED);
	if (strstr(text, "can be reached again"))
		__atomic_add_fetch(&lines_back, 1, __ATOMIC_RELAXED);
}

static void leave(void)
{
	gate_error(g, ZD_FROM_DEVICE, -EAGAIN);
	gate_error(g, ZD_TO_DEVICE, -EAGAIN);
}

static void come_back(void)
{
	gate_error(g, ZD_FROM_DEVICE, 0);
	gate_error(g, ZD_TO_DEVICE, 0);
}

static unsigned int reads(void)
{
	return gate_asked(g, ZD_FROM_DEVICE);
}

static void wait_for_asks(void)
{
	unsigned int before = reads();

	WAIT_FOR(reads() >= before + ASKS);
}

/* Nothing has been lost by any of the tests. */
static void check_nothing_lost(void)
{
	CHECK_EQ(stats(mm).pages_poisoned, 0);
}

static void end(char *p, uint64_t tag)
{
	come_back();
	CHECK_FILLED(p, N, tag);
	WAIT_FOR(!gate_used(g));
	check_nothing_lost();
	munmap(p, N * PAGE);
}

/* Threads wait, and get their pages; other memory is served meanwhile.  The device is asked
 * with pauses, and the log has one line for its going and one for its coming. */
static void by_fault(void)
{
	char *p = evicted(mm, N, 1, &g->dev), *other = map(N);
	struct zd_mm_stats before = stats(mm), after;
	unsigned int asked;
	struct toucher t[3];
	double since;

	CHECK_EQ(zd_mm_register(mm, other, N * PAGE), 0);
	leave();
	asked = reads();
	since = now();
	for (int i = 0; i < 3; i++)	/* two neighbours, and one apart */
		toucher_start(&t[i], mm, p + (i < 2 ? i : 40) * PAGE);
	fill(other, N, 2);
	WAIT_FOR(__atomic_load_n(&lines_away, __ATOMIC_RELAXED) == 1);
	wait_for_asks();
	/* at least a millisecond between two asks for a page */
	CHECK(reads() - asked <= 3 + 3 * (now() - since) * 1000);
	for (int i = 0; i < 3; i++)
		CHECK(!toucher_done(&t[i]));
	CHECK_EQ(stats(mm).pages_device, N);
	CHECK_FILLED(other, N, 2);
	CHECK_EQ(__atomic_load_n(&lines_back, __ATOMIC_RELAXED), 0);
	come_back();
	for (int i = 0; i < 3; i++)
		CHECK_EQ(toucher_join(&t[i]), word(1, i < 2 ? i : 40, 0));
	WAIT_FOR(__atomic_load_n(&lines_back, __ATOMIC_RELAXED) == 1);
	CHECK_EQ(__atomic_load_n(&lines_away, __ATOMIC_RELAXED), 1);
	after = stats(mm);
	/* each fault counts once, however often the device was asked */
	CHECK(after.faults_home - before.faults_home <= 3);
	CHECK(after.faults_home > before.faults_home);
	end(p, 1);
	munmap(other, N * PAGE);
}

/* Pages that lie beside each other are asked for in one batch, of which only one is needed. */
static void by_fault_with_neighbours(void)
{
	char *p = evicted(mm, N, 2, &g->dev);
	struct toucher t[2];
	size_t here;

	CHECK_EQ(bad_page(p, 0, 8, 2), 8);	/* a stream: the next fault brings several */
	here = resident(p, N);
	CHECK(here >= 8 && here < N - 3);
	leave();
	toucher_start(&t[0], mm, p + here * PAGE);
	toucher_start(&t[1], mm, p + (here + 2) * PAGE);
	wait_for_asks();
	CHECK(!toucher_done(&t[0]) && !toucher_done(&t[1]));
	come_back();
	CHECK_EQ(toucher_join(&t[0]), word(2, here, 0));
	CHECK_EQ(toucher_join(&t[1]), word(2, here + 2, 0));
	end(p, 2);
}

static void verify(void *p)
{
	CHECK_FILLED((char *)p, N, 3);
}

/* A forked child's faults wait as well, also when its parent needs the pages no more. */
static void in_a_child(void)
{
	char *p = evicted(mm, N, 3, &g->dev);
	pid_t child;

	leave();
	child = child_start(verify, p);
	wait_for_asks();
	CHECK(!madvise(p, N * PAGE, MADV_DONTNEED));
	wait_for_asks();
	come_back();
	child_ok(child);
	CHECK(is_zero(p, N * PAGE));
	WAIT_FOR(!gate_used(g));
	check_nothing_lost();
	munmap(p, N * PAGE);
}

/* The page is given up while a thread waits for it. */
static void given_up(void)
{
	char *p = evicted(mm, N, 4, &g->dev);
	struct toucher t;

	leave();
	toucher_start(&t, mm, p + 5 * PAGE);
	wait_for_asks();
	CHECK(!madvise(p + 5 * PAGE, PAGE, MADV_DONTNEED));
	CHECK_EQ(toucher_join(&t), 0);	/* with the device away all the time */
	come_back();
	CHECK_EQ(bad_page(p, 0, 5, 4), 5);
	CHECK_EQ(bad_page(p, 6, N, 4), N);
	WAIT_FOR(!gate_used(g));
	check_nothing_lost();
	munmap(p, N * PAGE);
}

/* Who asks for pages that no thread needs is told that they can't be had now. */
static void by_call(void)
{
	char *p = evicted(mm, N, 5, &g->dev);
	struct zd_migrate_result r;

	leave();
	CHECK_EQ(zd_migrate_to_ram(mm, p, N * PAGE, &r), -EAGAIN);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(r.device, N);
	CHECK_EQ(zd_mm_unregister(mm, p, N * PAGE), -EAGAIN);
	CHECK_EQ(zd_device_unregister(&g->dev), -EAGAIN);
	CHECK_EQ(zd_device_unregister_timeout(&g->dev, PATIENCE * 1000, NULL), -EAGAIN);
	CHECK_EQ(stats(mm).pages_device, N);
	come_back();
	/* and all is as it was */
	CHECK_EQ(zd_migrate_to_ram(mm, p, N * PAGE, &r), 0);
	CHECK_EQ(r.moved, N);
	evict(mm, p, N, &g->dev);
	end(p, 5);
}

/* What was to go out stays, and goes when the device is back. */
static void on_the_way_out(void)
{
	struct zd_migrate_result r;
	unsigned int asked;
	char *p = map(N);

	fill(p, N, 6);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	leave();
	asked = gate_asked(g, ZD_TO_DEVICE);
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, &g->dev, &r), 0);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(r.device, N);
	CHECK_EQ(gate_asked(g, ZD_TO_DEVICE), asked + 1);	/* not again and again */
	CHECK_EQ(resident(p, N), N);
	CHECK_EQ(gate_used(g), 0);
	come_back();
	evict(mm, p, N, &g->dev);
	end(p, 6);
}

/* The device's time is over: now the page is lost, to the thread that needs it. */
struct waiter {
	char *addr;
	bool bus, done;
	pthread_t thread;
};

static void *waiter_thread(void *arg)
{
	struct waiter *w = arg;

	w->bus = raises_sigbus(w->addr);
	__atomic_store_n(&w->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void for_good(void)
{
	char *p = evicted(mm, N, 7, &g->dev);
	struct waiter w = { .addr = p + 50 * PAGE };

	leave();
	CHECK_EQ(pthread_create(&w.thread, NULL, waiter_thread, &w), 0);
	wait_for_asks();
	CHECK(!__atomic_load_n(&w.done, __ATOMIC_ACQUIRE));
	gate_error(g, ZD_FROM_DEVICE, -ETIMEDOUT);
	WAIT_FOR(__atomic_load_n(&w.done, __ATOMIC_ACQUIRE));
	pthread_join(w.thread, NULL);
	CHECK(w.bus);
	CHECK_EQ(stats(mm).pages_poisoned, 1);
	come_back();
	CHECK_EQ(bad_page(p, 0, 50, 7), 50);
	CHECK_EQ(bad_page(p, 51, N, 7), N);
	WAIT_FOR(!gate_used(g));
	munmap(p, N * PAGE);
}

static void ignore(int sig)
{
	(void)sig;
}

/* A thread that signals interrupt faults again each time; the device is asked once a pause all the
 * same. */
static void interrupted(void)
{
	char *p = evicted(mm, N, 9, &g->dev);
	struct sigaction sa = { .sa_handler = ignore };
	unsigned int asked;
	struct toucher t;
	uint64_t faults;
	double since;

	CHECK(!sigaction(SIGUSR1, &sa, NULL));
	leave();
	toucher_start(&t, mm, p + 30 * PAGE);
	for (int i = 0; i < 50; i++) {
		faults = stats(mm).faults;
		CHECK_EQ(pthread_kill(t.thread, SIGUSR1), 0);
		WAIT_FOR(stats(mm).faults > faults);
	}
	asked = reads();
	since = now();
	wait_for_asks();
	CHECK(reads() - asked <= 2 + (now() - since) * 1000);
	CHECK(!toucher_done(&t));
	come_back();
	CHECK_EQ(toucher_join(&t), word(9, 30, 0));
	end(p, 9);
}

static void *close_thread(void *arg)
{
	bool *closed = arg;

	CHECK_EQ(zd_mm_close(mm), 0);
	__atomic_store_n(closed, true, __ATOMIC_RELEASE);
	return NULL;
}

/* The last chance for pages to come home: the close waits for the device. */
static void by_close(void)
{
	char *p = evicted(mm, N, 8, &g->dev);
	unsigned int asked = reads();
	bool closed = false;
	double since = now();
	pthread_t thread;

	leave();
	CHECK_EQ(pthread_create(&thread, NULL, close_thread, &closed), 0);
	wait_for_asks();
	CHECK(reads() - asked <= 2 + (now() - since) * 1000);
	CHECK(!__atomic_load_n(&closed, __ATOMIC_ACQUIRE));
	come_back();
	WAIT_FOR(__atomic_load_n(&closed, __ATOMIC_ACQUIRE));
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_FILLED(p, N, 8);
	CHECK_EQ(gate_used(g), 0);
	CHECK_EQ(zd_device_unregister(&g->dev), 0);
	munmap(p, N * PAGE);
}

int main(void)
{
	catch_sigbus();
	zd_set_log(count_lines, NULL);
	mm = open_mm();
	g = gate_device(2 * N);
	by_fault();
	by_fault_with_neighbours();
	in_a_child();
	given_up();
	by_call();
	on_the_way_out();
	interrupted();
	for_good();
	by_close();
	return 0;
}
