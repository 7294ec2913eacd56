// SPDX-License-Identifier: MIT
/* fuzz_mm: what was done, and what went wrong. */
#include <execinfo.h>

#include "tests/stress/fuzz_mm.h"

#define TOLD	24	/* operations on a page */
#define LAST	8	/* operations of any kind */

__thread struct worker *me;
static __thread sigjmp_buf *volatile expected;
static __thread volatile bool telling;
static __thread volatile uintptr_t fault_addr;

void note(struct worker *w, const char *what, const void *from, const void *to, size_t len,
	  int result)
{
	uint64_t step = w->step;
	static __thread unsigned int pos;
	struct done *d = &w->done[pos++ % RECENT];

	*d = (struct done) {
		.step = step, .ns = now_ns(), .what = what, .from = (uintptr_t)from,
		.to = (uintptr_t)to, .len = len, .result = result,
	};
}

static const struct done *newest(struct worker *w, uint64_t before)
{
	const struct done *d = NULL;

	for (unsigned int i = 0; i < RECENT; i++)
		if (w->done[i].what && w->done[i].ns < before && (!d || w->done[i].ns > d->ns))
			d = &w->done[i];
	return d;
}

static void tell_done(const struct done *d, uint64_t now)
{
	dprintf(2, "    -%.3f ms, step %llu: %s %#lx+%#lx", (now - d->ns) / 1e6,
		(unsigned long long)d->step, d->what, (long)d->from, (long)d->len);
	if (d->to)
		dprintf(2, " -> %#lx", (long)d->to);
	if (d->result)
		dprintf(2, " = %s", strerrorname_np(d->result));
	dprintf(2, "\n");
}

/* What happened to the page, back through its moves. */
static void tell_page(struct worker *w, uintptr_t addr, uint64_t now)
{
	uint64_t before = UINT64_MAX;
	const struct done *d;
	int told = 0;

	addr &= ~(PAGE - 1);
	dprintf(2, "  on that page, backwards:\n");
	while (told < TOLD && (d = newest(w, before))) {
		before = d->ns;
		if (d->to && addr + PAGE > d->to && addr < d->to + d->len) {
			tell_done(d, now);
			told++;
			if (d->from && !d->result)	/* a move: it was elsewhere before */
				addr = addr - d->to + d->from;
		} else if (addr + PAGE > d->from && addr < d->from + d->len) {
			tell_done(d, now);
			told++;
		}
	}
}

void tell_last(struct worker *w, uint64_t now)
{
	uint64_t before = UINT64_MAX;
	const struct done *d;

	dprintf(2, "  last of %s %u, backwards:\n", w->id < THREADS ? "thread" : "child", w->id);
	for (int told = 0; told < LAST && (d = newest(w, before)); told++) {
		before = d->ns;
		tell_done(d, now);
	}
}

/* The other threads may go on meanwhile. */
static void tell_others(struct worker *w, uintptr_t addr, uint64_t now)
{
	for (unsigned int t = 0; t < conf.threads; t++) {
		uint64_t before = UINT64_MAX;
		const struct done *d;
		int told = 0;

		for (int n = 0; n < 256 && told < 6 && (d = newest(&sh->worker[t], before)); n++) {
			before = d->ns;
			if (&sh->worker[t] == w || (addr - d->from >= d->len &&
						    addr - d->to >= d->len))
				continue;
			if (!told++)
				dprintf(2, "  thread %u there:\n", t);
			tell_done(d, now);
		}
	}
}

static void tell_kernel(uintptr_t addr)
{
	uint64_t entry = 0;
	char line[256];
	unsigned long from, to;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	FILE *f;

	if (fd >= 0 && pread(fd, &entry, 8, addr / PAGE * 8) == 8)
		dprintf(2, "  pagemap: %#llx\n", (unsigned long long)entry);
	f = fopen("/proc/self/maps", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2 && addr >= from && addr < to)
			dprintf(2, "  maps: %s", line);
}

void broken(struct worker *w, const void *addr, const char *fmt, ...)
{
	uint64_t now = now_ns();
	char why[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (__atomic_exchange_n(&sh->failed, 1, __ATOMIC_SEQ_CST)) {
		usleep(2000000);	/* one story is enough: the first one is being told */
		_exit(1);
	}
	dprintf(2, "BROKEN: %s\n  seed %llu, ", why, (unsigned long long)conf.seed);
	if (w) {
		dprintf(2, "%s %u, step %llu, pid %d, address %p\n",
			w->id < THREADS ? "thread" : "child", w->id, (unsigned long long)w->step,
			getpid(), addr);
		if (addr)
			tell_page(w, (uintptr_t)addr, now);
		tell_last(w, now);
		if (addr) {
			tell_others(w, (uintptr_t)addr, now);
			tell_kernel((uintptr_t)addr);
		}
	} else {
		dprintf(2, "pid %d\n", getpid());
	}
	_exit(1);
}

/* @want: 0 or an errno; what Linux says of that state. */
void expect_result(struct worker *w, const char *what, const void *addr, int got, int want)
{
	if (got != want)
		broken(w, addr, "%s: %s, not %s", what, got ? strerrorname_np(got) : "done",
		       want ? strerrorname_np(want) : "done");
}

/* --- signals --- */

static void caught(int sig, siginfo_t *si, void *context)
{
	void *frame[24];

	(void)context;
	if (expected && (sig == SIGSEGV || sig == SIGBUS)) {
		fault_addr = (uintptr_t)si->si_addr;
		siglongjmp(*expected, sig);
	}
	if (telling)
		_exit(1);
	telling = true;
	backtrace_symbols_fd(frame, backtrace(frame, 24), 2);
	broken(me, sig == SIGSEGV || sig == SIGBUS ? si->si_addr : NULL, "signal %s",
	       sigabbrev_np(sig));
}

/* Is the byte there?  0, or the signal that it raises. */
int touch(volatile char *addr, bool write)
{
	sigjmp_buf buf;
	int sig = sigsetjmp(buf, 1);

	if (!sig) {
		expected = &buf;
		if (write)
			*addr = 0;
		else
			(void)*addr;
	}
	expected = NULL;
	if (sig && fault_addr != (uintptr_t)addr)
		broken(me, (void *)addr, "signal %s says %#lx", sigabbrev_np(sig),
		       (long)fault_addr);
	return sig;
}

void catch_signals(void)
{
	struct sigaction sa = { .sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_NODEFER };
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGALRM };
	void *frame[1];

	backtrace(frame, 1);	/* loads what it needs */
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sigaction(sigs[i], &sa, NULL);
}
