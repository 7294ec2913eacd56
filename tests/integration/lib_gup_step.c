/* SPDX-License-Identifier: MIT */
/*
 * GUP's walk, stopped at each of its instructions in turn, while another thread unmaps the
 * page and its descriptor becomes another page's, or migrates the page.  The walk then
 * returns a page that was mapped there, held, or an error; and references that it took in
 * passing from another page are given back.
 *
 * The walking thread runs with the CPU's trap flag set and counts its instructions in
 * a signal handler, which at the chosen instruction lets the other thread do its work.
 */
#include <ucontext.h>

#include "tests/integration/lib_huge.h"

#ifndef __x86_64__
int main(void)
{
	skip("x86-64 only: steps by the trap flag");
}
#else

#define HP	512		/* pages of a huge page */
#define NR	2		/* pages that a walk asks for; of a huge page from FIRST on */
#define FIRST	10
#define TRAP_FLAG	0x100

enum state { IDLE, GO, STOPPED, RESUME, DONE };

static struct zd_mm *mm;
static struct zd_device *dev;
static int state;			/* of the walk; __atomic */
static long steps, stop_at;

/* What the walk is to do, and what it got. */
static char *at;
static size_t nr;
static bool get;
static long got;
static struct zd_page *pages[NR];

static void set_state(enum state s)
{
	__atomic_store_n(&state, s, __ATOMIC_RELEASE);
}

static bool is_state(enum state s)
{
	return __atomic_load_n(&state, __ATOMIC_ACQUIRE) == (int)s;
}

static void on_step(int sig, siginfo_t *info, void *ctx)
{
	ucontext_t *uc = ctx;
	int saved = errno;

	(void)sig;
	(void)info;
	if (steps++ < stop_at)
		return;
	uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
	set_state(STOPPED);
	while (!is_state(RESUME))
		usleep(50);
	errno = saved;
}

/* 128: beyond the red zone. */
#define CHANGE_FLAGS(op, bits)							\
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\t"			\
			 op " %0, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp"	\
			 : : "i"(bits) : "memory", "cc")

static void *walker(void *arg)
{
	for (;;) {
		while (is_state(IDLE) || is_state(DONE))
			usleep(50);
		if (!nr)
			return arg;
		steps = 0;
		CHANGE_FLAGS("orq", TRAP_FLAG);
		if (get)
			got = zd_get_user_pages_fast(mm, at, nr, 0, pages);
		else
			got = zd_pin_user_pages_fast(mm, at, nr, 0, pages);
		CHANGE_FLAGS("andq", ~TRAP_FLAG);
		set_state(DONE);
	}
}

/* As WAIT_FOR(), but cheap: it is called thousands of times. */
static void wait_for(enum state a, enum state b)
{
	double until = now() + PATIENCE;

	while (!is_state(a) && !is_state(b)) {
		CHECK(now() < until);
		usleep(20);
	}
}

/* Walk, and do @meddle at the @k'th instruction.  False: the walk has fewer. */
static bool walk(long k, void (*meddle)(void))
{
	bool stopped;

	stop_at = k;
	set_state(GO);
	wait_for(STOPPED, DONE);
	stopped = is_state(STOPPED);
	if (stopped) {
		meddle();
		set_state(RESUME);
	}
	wait_for(DONE, DONE);
	return stopped;
}

static void let_go(void)
{
	for (long i = 0; get && i < got; i++)
		zd_put_page(pages[i]);
	if (!get && got > 0)
		zd_unpin_user_pages(pages, got);
}

static void at_the_right_place(void)
{
	for (long i = 0; i < got; i++)
		CHECK(zd_page_address(pages[i]) == at + i * PAGE);
}

/* References to @page of the kind that the walk takes. */
static uint32_t held(const struct zd_page *page)
{
	return zd_page_count(page->pgmap_id & ZD_PAGE_FOLIO && !get ? zd_page_folio_(page) : page) -
	       1;
}

static void touch(char *mem, size_t npages, struct zd_page **to)
{
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, npages, 0, to), npages);
	zd_unpin_user_pages(to, npages);
}

/* --- unmapped, and its descriptor is another page's --- */

static char *victim, *other;
static size_t bytes;
static struct zd_page *mine[HP], *theirs[HP];

static void unmap_and_reuse(void)
{
	CHECK(!munmap(victim, bytes));
	touch(other, bytes / PAGE, theirs);
}

static bool reused(long k)
{
	bool stopped, same;

	CHECK_EQ(zd_mm_register(mm, victim, bytes), 0);
	CHECK_EQ(zd_mm_register(mm, other, bytes), 0);
	touch(victim, bytes / PAGE, mine);
	stopped = walk(k, unmap_and_reuse);
	same = stopped && theirs[0] == mine[0];
	if (got > 0) {
		CHECK(got == (long)nr || stopped);	/* in the middle of the run */
		at_the_right_place();
		CHECK(pages[0] == mine[at == victim ? 0 : FIRST]);
		CHECK(!same);		/* not while it is held */
	} else {
		CHECK(stopped);
		CHECK_EQ(got, -EFAULT);
	}
	let_go();
	if (stopped)
		CHECK_EQ(held(theirs[0]), 0);
	else
		CHECK(!munmap(victim, bytes));
	CHECK(!munmap(other, bytes));
	return stopped;
}

static bool small_reused(long k)
{
	bytes = PAGE;
	nr = 1;
	at = victim = map(1);
	other = map(1);
	fill(victim, 1, 1);
	return reused(k);
}

static bool huge_reused(long k)
{
	bytes = HUGE;
	nr = NR;
	victim = map_huge(1, 1);
	at = victim + FIRST * PAGE;
	other = map_huge(1, 2);
	return reused(k);
}

/* --- a part of what is asked for is unmapped --- */

static void unmap_part(void)
{
	CHECK(!munmap(at + PAGE, PAGE));
	touch(at, 1, theirs);		/* the event has been read */
}

static bool part_unmapped(long k)
{
	bool stopped;

	nr = NR;
	victim = map_huge(1, 3);
	at = victim + FIRST * PAGE;
	CHECK_EQ(zd_mm_register(mm, victim, HUGE), 0);
	touch(victim, HP, mine);
	CHECK(mine[0]->pgmap_id & ZD_PAGE_FOLIO);
	stopped = walk(k, unmap_part);
	CHECK(got == NR || (stopped && got == 1));
	at_the_right_place();
	CHECK(pages[0] == mine[FIRST]);
	if (!get)
		CHECK_EQ(held(mine[0]), got * ZD_FOLIO_PIN);
	let_go();
	CHECK_EQ(held(mine[0]), 0);
	CHECK(!munmap(victim, HUGE));
	return stopped;
}

/* --- migrated --- */

static void migrate(void)
{
	CHECK_EQ(zd_migrate_to_device(mm, victim, bytes, dev, NULL), 0);
}

static bool migrated(long k)
{
	struct zd_migrate_result r;
	bool stopped;

	CHECK_EQ(zd_mm_register(mm, victim, bytes), 0);
	touch(victim, bytes / PAGE, mine);
	stopped = walk(k, migrate);
	CHECK_EQ(got, nr);
	at_the_right_place();
	CHECK_EQ(resident(at, nr), nr);
	CHECK_EQ(zd_migrate_to_device(mm, at, nr * PAGE, dev, &r), 0);
	CHECK_EQ(r.pinned, nr);
	CHECK_EQ(resident(at, nr), nr);
	let_go();
	migrate_out(mm, at, nr * PAGE, nr, dev, &r);
	CHECK_EQ(r.moved, nr);
	CHECK_FILLED(victim, bytes / PAGE, 4);
	CHECK(!munmap(victim, bytes));
	return stopped;
}

static bool small_migrated(long k)
{
	bytes = PAGE;
	nr = 1;
	at = victim = map(1);
	fill(victim, 1, 4);
	return migrated(k);
}

static bool huge_migrated(long k)
{
	bytes = HUGE;
	nr = NR;
	victim = map_huge(1, 4);
	at = victim + FIRST * PAGE;
	return migrated(k);
}

int main(void)
{
	static const struct {
		const char *name;
		bool (*one)(long k);
	} tests[] = {
		{ "a page unmapped", small_reused },
		{ "a huge page unmapped", huge_reused },
		{ "a part of a huge page unmapped", part_unmapped },
		{ "a page migrated", small_migrated },
		{ "a huge page migrated", huge_migrated },
	};
	struct sigaction sa = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };
	pthread_t thread;

	CHECK(!sigaction(SIGTRAP, &sa, NULL));
	mm = open_mm();
	dev = ram_device(4 * HP);
	CHECK(!pthread_create(&thread, NULL, walker, NULL));
	for (size_t i = 0; i < 2 * sizeof(tests) / sizeof(tests[0]); i++) {
		long k = -1;

		get = i % 2;
		tests[i / 2].one(1L << 40);	/* what only a first call does */
		while (tests[i / 2].one(++k))
			;
		printf("%s, %s: %ld instructions\n", tests[i / 2].name, get ? "get" : "pin", k);
		CHECK(k > 20);
	}
	nr = 0;
	set_state(GO);
	CHECK(!pthread_join(thread, NULL));
	close_mm(mm, dev);
	return 0;
}
#endif
