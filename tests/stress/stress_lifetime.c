/* SPDX-License-Identifier: MIT */
/*
 * Threads map, touch, get, pin, fork, migrate, drop, remap and unmap memory, and
 * a device comes and goes under them, at random and all at once.
 *
 * usage: stress_lifetime [SEED [SECONDS]]; also $ZD_SEED, $ZD_SECONDS (10).
 * For a long time: make soak.
 *
 * What runs.  Six threads share 768 pages and have a few mappings each of their
 * own; each draws an operation (lifetime_ops.c), does it, draws the next.  A
 * thread's own mappings are a target of the other threads, too, which may find
 * them unmapped.  One thread makes and removes devices (lifetime_device.c): ram
 * devices with a latency and with writes that fail, files, smaller and larger
 * than the memory.  Another one stops threads for a moment, wherever they are,
 * so that a window of a few instructions is open for longer than a migration
 * takes.  Every second or so the round ends: all threads wait, and all that there
 * is gets counted (lifetime_check.c).  Every few rounds the mm is closed and
 * begun anew.
 *
 * What broken looks like.  Each of these ends the test, with the seed and what
 * every thread did last:
 *
 *  "thread N's word is ...", "word K is ..."
 *	A page has lost its content: it is old, zeros, or another page's.  A fault
 *	was answered while the page was in flight, a page was put before it had
 *	come home, an entry followed neither its mremap nor its fork.
 *  "page P is held and not in RAM", "has become"
 *	A pin didn't keep the page: it was migrated, or its descriptor was
 *	taken away.
 *  "says that it is at Q"
 *	The walk got another page's descriptor: it didn't look at the entry again
 *	after its get.
 *  "held N times, has a count of M"; "count M, not N"
 *	A reference too few or too many: a put twice, a put forgotten.
 *  "N pages are on the device; it has M live ones"
 *	A device page was not put when it came home or lost its last mapping (or
 *	was put too often); "and only N are free": it was never given back.
 *  "removing ...: -110", "nobody lets go", "zd_mm_close: -16"
 *	A reference that no thread has keeps a device or the mm.
 *  "nothing happens"
 *	A thread waits for ever: its operation says for what.  Or a removal does.
 *  SIGSEGV, SIGABRT, a sanitizer's report
 *	Something was used after it had been freed, or a broken invariant was
 *	noticed by zonedev itself.
 *
 * Running it again.  In each round the operations of each thread are a function
 * of the seed, the round and the thread.  How the threads interleave isn't, so
 * what broke may need a few runs.
 */
#include "tests/stress/lifetime.h"

#define ROUND		1.3	/* seconds */
#define ROUNDS		3	/* to an mm */
#define STUCK		30	/* seconds without a step: something hangs */
#define JOLTS		1	/* ms between two, at most */

struct zd_mm *mm;
char *mem;
struct worker worker[THREADS];

static uint64_t seed_value, round_nr;
static unsigned int arrived;		/* __atomic, as what follows */
static bool over, last_round, jolting;

/* --- the end of the world --- */

static void tell_recent(const struct worker *w)
{
	uint64_t n = w->step < RECENT ? w->step : RECENT;

	dprintf(2, "  thread %u, step %llu, %u holds:", w->id, (unsigned long long)w->step,
		w->nr_holds);
	for (uint64_t i = w->step - n; i < w->step; i++) {
		const struct op *op = &w->recent[i % RECENT];

		dprintf(2, " %s(%#x,%#x,%#x,%#x)", op_name(op->kind), op->a, op->b, op->c, op->d);
	}
	dprintf(2, "\n");
	for (unsigned int i = 0; i < WINDOWS; i++)
		dprintf(2, "    window %u: %p, %u pages%s\n", i, w->win[i].base, w->win[i].pages,
			w->win[i].loose ? ", loose" : "");
}

/* The other threads go on meanwhile: what is told of them is about right. */
__attribute__((no_sanitize("thread"), no_sanitize("address")))
static void tell_all(void)
{
	for (size_t t = 0; t < THREADS; t++)
		tell_recent(&worker[t]);
}

void broken(const struct worker *w, const char *fmt, ...)
{
	static bool told;
	char why[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	dprintf(2, "BROKEN: %s\n  seed %llu, round %llu, ", why, (unsigned long long)seed_value,
		(unsigned long long)round_nr);
	if (w)
		dprintf(2, "thread %u, ", w->id);
	dprintf(2, "pid %d\n", getpid());
	if (!__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
		tell_all();
	for (size_t t = 0; t < THREADS; t++)
		for (size_t i = 0; i < CHILDREN; i++)
			if (worker[t].child[i] > 0)
				kill(worker[t].child[i], SIGKILL);
	_exit(1);
}

static void crashed(int sig)
{
	dprintf(2, "BROKEN: signal %d; seed %llu, round %llu, pid %d\n", sig,
		(unsigned long long)seed_value, (unsigned long long)round_nr, getpid());
	tell_all();
	raise(sig);	/* SA_RESETHAND: for good */
}

static void catch (void)
{
	struct sigaction sa = { .sa_handler = crashed, .sa_flags = SA_RESETHAND | SA_NODEFER };

	sigaction(SIGABRT, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);	/* a child, or the checks, hang */
	sigaction(SIGBUS, &sa, NULL);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	sigaction(SIGSEGV, &sa, NULL);
#endif
}

/* A write that fails was made to fail; what else zonedev says is worth reading. */
static void said(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)ctx;
	if (level <= ZD_LOG_WARN && !strstr(msg, "can't write"))
		dprintf(2, "zonedev: %s\n", msg);
}

/* --- stopping threads at any instruction --- */

static void nap(int sig)
{
	static unsigned int n;
	struct timespec ts = { .tv_nsec = 50000 };
	int saved = errno;

	(void)sig;
	ts.tv_nsec <<= __atomic_fetch_add(&n, 1, __ATOMIC_RELAXED) % 8;	/* to 6 ms */
	nanosleep(&ts, NULL);
	errno = saved;
}

static void *jolt(void *unused)
{
	uint64_t rng = seed_value | 1;

	while (__atomic_load_n(&jolting, __ATOMIC_ACQUIRE)) {
		unsigned int t = rnd(&rng) % THREADS;

		usleep(rnd(&rng) % (JOLTS * 1000));
		for (int i = 0; i < THREADS && rnd(&rng) % THREADS &&
				!__atomic_load_n(&worker[t].walks, __ATOMIC_RELAXED);
		     i++)
			t = (t + 1) % THREADS;
		pthread_kill(worker[t].thread, SIGUSR1);
	}
	return unused;
}

/* --- rounds --- */

bool round_over(void)
{
	return __atomic_load_n(&over, __ATOMIC_ACQUIRE);
}

bool round_wait(struct worker *w)
{
	if (w)
		__atomic_store_n(&w->waits, true, __ATOMIC_RELAXED);
	/* release: main sees all that was done; pairs with wait_for_all() */
	__atomic_add_fetch(&arrived, 1, __ATOMIC_RELEASE);
	while (round_over() && !__atomic_load_n(&last_round, __ATOMIC_ACQUIRE))
		usleep(300);
	return !__atomic_load_n(&last_round, __ATOMIC_ACQUIRE);
}

uint64_t round_seed(unsigned int id)
{
	uint64_t s = seed_value + (round_nr * 64 + id) * 0x9e3779b97f4a7c15ull;

	rnd(&s);
	return s | 1;
}

/* Ends the test when a thread has not made a step for too long. */
static void watch(bool start)
{
	static uint64_t seen[THREADS];
	static double since[THREADS];

	for (size_t t = 0; t < THREADS; t++) {
		uint64_t step = __atomic_load_n(&worker[t].step, __ATOMIC_RELAXED);

		if (start || step != seen[t] ||
		    __atomic_load_n(&worker[t].waits, __ATOMIC_RELAXED)) {
			seen[t] = step;
			since[t] = now();
		}
		if (now() - since[t] > STUCK)
			broken(&worker[t], "nothing happens");
	}
}

static void run_round(double seconds)
{
	double until = now() + seconds;

	watch(true);
	while (now() < until) {
		usleep(20000);
		watch(false);
	}
	__atomic_store_n(&over, true, __ATOMIC_RELEASE);
	until = now() + 2 * STUCK;
	while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < THREADS + 1) {
		usleep(500);
		watch(false);
		if (now() > until)
			broken(NULL, "nothing happens: the device can't be removed");
	}
}

static void next_round(bool last)
{
	round_nr++;
	__atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
	if (last)
		__atomic_store_n(&last_round, true, __ATOMIC_RELEASE);
	else
		__atomic_store_n(&over, false, __ATOMIC_RELEASE);
}

/* --- one mm's life --- */

static void begin(uint64_t *rng)
{
	struct zd_mm_attr attr = { .size = sizeof(attr), .fault_around = rnd(rng) % 3 * 8 };
	int rc = zd_mm_open(&attr, &mm);

	if (rc == -EPERM || rc == -EOPNOTSUPP)
		skip("needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE");
	EXPECT(NULL, !rc, "zd_mm_open: %d", rc);
	mem = map(COMMON);
	for (unsigned int t = 0; t < THREADS; t++) {
		struct worker *w = &worker[t];

		w->id = t;
		memset(w->common, 0, sizeof(w->common));
		memset(w->win, 0, sizeof(w->win));
	}
	for (size_t p = rnd(rng) % 2 ? COMMON : 0; p < COMMON; p++)
		write_common(&worker[p % THREADS], p);
	EXPECT(NULL, !zd_mm_register(mm, mem, COMMON * PAGE), "zd_mm_register");
	over = last_round = false;
	arrived = 0;
	jolting = rnd(rng) % 4;
}

static void one_mm(uint64_t *rng, double end)
{
	pthread_t keeper, jolter;

	begin(rng);
	for (size_t t = 0; t < THREADS; t++)
		CHECK(!pthread_create(&worker[t].thread, NULL, work, &worker[t]));
	CHECK(!pthread_create(&keeper, NULL, keep_devices, NULL));
	CHECK(!pthread_create(&jolter, NULL, jolt, NULL));
	for (int i = 0;; i++) {
		bool last = i == ROUNDS - 1 || now() + ROUND > end;

		run_round(ROUND);
		if (last)	/* it must not hit a thread that has ended */
			__atomic_store_n(&jolting, false, __ATOMIC_RELEASE);
		if (last)
			CHECK(!pthread_join(jolter, NULL));
		alarm(3 * PATIENCE);
		check_everything(rng);
		alarm(0);
		next_round(last);
		if (last)
			break;
	}
	for (size_t t = 0; t < THREADS; t++)
		CHECK(!pthread_join(worker[t].thread, NULL));
	CHECK(!pthread_join(keeper, NULL));
	alarm(3 * PATIENCE);
	close_everything(rng);
	alarm(0);
}

static void report(double seconds)
{
	struct totals sum = { 0 };
	uint64_t steps = 0;

	for (size_t t = 0; t < THREADS; t++) {
		for (int k = 0; k < NR_OPS; k++) {
			sum.op[k] += worker[t].did.op[k];
			steps += worker[t].did.op[k];
		}
		sum.moved += worker[t].did.moved;
		sum.again += worker[t].did.again;
	}
	printf("%.0f s: %llu rounds, %llu steps, %llu forks, %llu pages out, %llu devices (%llu "
	       "files), %llu removals, %llu timed out, %llu gets and pins (%llu would not hold "
	       "still)\n",
	       seconds, (unsigned long long)round_nr, (unsigned long long)steps,
	       (unsigned long long)sum.op[OP_FORK], (unsigned long long)sum.moved,
	       (unsigned long long)removed.devices, (unsigned long long)removed.file_devices,
	       (unsigned long long)removed.removals, (unsigned long long)removed.timeouts,
	       (unsigned long long)(sum.op[OP_GET] + sum.op[OP_PIN]),
	       (unsigned long long)sum.again);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const char *env = getenv("ZD_SECONDS");
	double seconds = argc > 2 ? atof(argv[2]) : env ? atof(env) : 10;
	struct sigaction sa = { .sa_handler = nap, .sa_flags = SA_RESTART };
	double start, told;
	uint64_t rng;

	seed_value = rng = seed(argc, argv);
	catch ();
	zd_set_log(said, NULL);
	CHECK(!sigaction(SIGUSR1, &sa, NULL));
	start = told = now();
	do {
		one_mm(&rng, start + seconds);
		if (now() - told > 10 || now() - start > seconds) {
			report(now() - start);
			told = now();
		}
	} while (now() - start < seconds);
	return 0;
}
