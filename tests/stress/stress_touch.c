/* SPDX-License-Identifier: MIT */
/*
 * Eight threads touch, evict, fetch, drop and fork the same range.
 *
 * Word t of each page is thread t's: a counter with the thread's and the page's
 * number mixed in, so a page that is old, zero or another's is told from a good
 * one.  Each thread knows what its own word of each page must be, checks it
 * before it writes the next value, and checks all of them in children.  Behind
 * the common range each thread has pages of its own that it drops with
 * MADV_DONTNEED.  The second half of the time goes to a device with a latency.
 *
 * usage: stress_touch [SEED [SECONDS]]; also $ZD_SEED, $ZD_SECONDS (20).
 */
#include "tests/integration/lib_test.h"

#define THREADS	8
#define COMMON	512	/* pages of all */
#define OWN	48	/* pages of each thread, behind */
#define TOTAL	(COMMON + THREADS * OWN)
#define FORKS	200	/* steps between two children of a thread, about */

static struct zd_mm *mm;
static struct zd_device *dev;
static char *mem;
static double end_at;
static uint64_t moved;
static pid_t main_pid;

struct worker {
	pthread_t thread;
	unsigned int id;
	uint64_t rng;
	uint64_t common[COMMON], own[OWN];	/* the counters that must be there */
	uint64_t steps, forks, drops;
};

static uint64_t value(unsigned int id, size_t page, uint64_t counter)
{
	return counter ? (counter << 24 | page << 8 | (id + 1)) * 0x9e3779b97f4a7c15ull : 0;
}

static volatile uint64_t *slot(const struct worker *w, size_t page)
{
	return (volatile uint64_t *)(mem + page * PAGE) + w->id * 61;
}

static size_t own_page(const struct worker *w, size_t i)
{
	return COMMON + w->id * OWN + i;
}

static void verify(const struct worker *w, size_t page, uint64_t counter)
{
	uint64_t got = *slot(w, page), want = value(w->id, page, counter);

	if (got == want)
		return;
	fprintf(stderr,
		"thread %u page %zu: %#llx, not %#llx (counter %llu), in %s; read again: "
		"%#llx\n",
		w->id, page, (unsigned long long)got, (unsigned long long)want,
		(unsigned long long)counter, getpid() == main_pid ? "the parent" : "a child",
		(unsigned long long)*slot(w, page));
	_exit(1);
}

static void verify_all(void *arg)
{
	const struct worker *w = arg;

	for (size_t p = 0; p < COMMON; p++)
		verify(w, p, w->common[p]);
	for (size_t i = 0; i < OWN; i++)
		verify(w, own_page(w, i), w->own[i]);
}

static void touch(struct worker *w)
{
	size_t first = rnd(&w->rng) % COMMON, nr = 1 + rnd(&w->rng) % 32;

	for (size_t p = first; p < first + nr && p < COMMON; p++) {
		verify(w, p, w->common[p]);
		if (rnd(&w->rng) & 1)
			*slot(w, p) = value(w->id, p, ++w->common[p]);
	}
	for (size_t i = 0; i < OWN; i++) {
		verify(w, own_page(w, i), w->own[i]);
		*slot(w, own_page(w, i)) = value(w->id, own_page(w, i), ++w->own[i]);
	}
}

static void migrate(struct worker *w, bool out)
{
	size_t first = rnd(&w->rng) % TOTAL, nr = 1 + rnd(&w->rng) % (TOTAL - first);
	struct zd_migrate_result r;
	char *p = mem + first * PAGE;
	int rc = out ? zd_migrate_to_device(mm, p, nr * PAGE, dev, &r) :
		       zd_migrate_to_ram(mm, p, nr * PAGE, &r);

	CHECK_EQ(rc, 0);
	if (out)
		__atomic_add_fetch(&moved, r.moved, __ATOMIC_RELAXED);
}

static void drop(struct worker *w)
{
	size_t first = rnd(&w->rng) % OWN, nr = 1 + rnd(&w->rng) % (OWN - first);

	CHECK(!madvise(mem + own_page(w, first) * PAGE, nr * PAGE, MADV_DONTNEED));
	memset(&w->own[first], 0, nr * sizeof(w->own[0]));
	for (size_t i = first; i < first + nr; i++)
		verify(w, own_page(w, i), 0);
	w->drops++;
}

/* Not child_start(): its fflush() would take stdio's lock in eight threads. */
static void check_in_child(struct worker *w)
{
	pid_t pid;

	if (!MAY_FORK_BESIDE_THREADS)
		return;
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		alarm(3 * PATIENCE);
		verify_all(w);
		*slot(w, 0) = 0;	/* its own copy */
		_exit(0);
	}
	child_ok(pid);
	w->forks++;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (now() < end_at) {
		switch (rnd(&w->rng) % 8) {
		case 0:
		case 1:
			migrate(w, true);
			break;
		case 2:
			migrate(w, false);
			break;
		case 3:
			drop(w);
			break;
		default:
			touch(w);
		}
		if (rnd(&w->rng) % FORKS == 0)
			check_in_child(w);
		w->steps++;
	}
	verify_all(w);
	return NULL;
}

static void run(uint64_t *rng, double seconds, unsigned int latency_us)
{
	static struct worker w[THREADS];
	uint64_t steps = 0, forks = 0, drops = 0;
	struct zd_mm_stats s;

	mm = open_mm();
	dev = ram_device(4 * TOTAL);
	if (latency_us)
		set_latency(dev, latency_us);
	mem = map(TOTAL);
	CHECK_EQ(zd_mm_register(mm, mem, TOTAL * PAGE), 0);
	memset(w, 0, sizeof(w));
	moved = 0;
	end_at = now() + seconds;
	for (unsigned int i = 0; i < THREADS; i++) {
		w[i].id = i;
		w[i].rng = rnd(rng) | 1;
		CHECK(!pthread_create(&w[i].thread, NULL, work, &w[i]));
	}
	while (latency_us && now() < end_at) {	/* a latency that changes */
		usleep(10000);
		set_latency(dev, rnd(rng) % (2 * latency_us));
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		CHECK(!pthread_join(w[i].thread, NULL));
		steps += w[i].steps;
		forks += w[i].forks;
		drops += w[i].drops;
	}
	s = stats(mm);
	printf("latency %u us: %llu steps, %llu forks, %llu drops; out %llu, home %llu, freed %llu, "
	       "refused %llu\n",
	       latency_us, (unsigned long long)steps, (unsigned long long)forks,
	       (unsigned long long)drops, (unsigned long long)s.pages_out,
	       (unsigned long long)s.pages_home, (unsigned long long)s.pages_freed,
	       (unsigned long long)s.refused_pinned);
	CHECK(s.pages_home > 0 && (forks > 0 || !MAY_FORK_BESIDE_THREADS) && drops > 0);
	CHECK_EQ(moved, s.pages_out);
	CHECK_EQ(zd_mm_close(mm), 0);
	for (unsigned int i = 0; i < THREADS; i++)
		verify_all(&w[i]);
	CHECK_EQ(zd_device_live_pages(dev), 0);
	CHECK_EQ(zd_device_unregister(dev), 0);
	munmap(mem, TOTAL * PAGE);
}

int main(int argc, char **argv)
{
	const char *env = getenv("ZD_SECONDS");
	double seconds = argc > 2 ? atof(argv[2]) : env ? atof(env) : 20;
	uint64_t rng = seed(argc, argv);

	main_pid = getpid();
	run(&rng, seconds / 2, 0);
	run(&rng, seconds / 2, 200);
	return 0;
}
