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

/* Without malloc and stdio: their memory may be what is wrong. */
void tell(const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0 && write(2, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1) < 0)
		_exit(1);
}

void note(struct worker *w, const char *what, const void *from, const void *to, size_t len,
	  int result)
{
	uint64_t step = w->step;
	static __thread unsigned int pos;
	struct done *d = &w->done[pos++ % RECENT];

	*d = (struct done){
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
	tell("    -%.3f ms, step %llu: %s %#lx+%#lx", (now - d->ns) / 1e6,
	     (unsigned long long)d->step, d->what, (long)d->from, (long)d->len);
	if (d->to)
		tell(" -> %#lx", (long)d->to);
	if (d->result)
		tell(" = %s", strerrorname_np(d->result));
	tell("\n");
}

/* What happened to the page, back through its moves. */
static void tell_page(struct worker *w, uintptr_t addr, uint64_t now)
{
	uint64_t before = UINT64_MAX;
	const struct done *d;
	int told = 0;

	addr &= ~(PAGE - 1);
	tell("  on that page, backwards:\n");
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

	tell("  last of %s %u, backwards:\n", w->id < THREADS ? "thread" : "child", w->id);
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
			if (&sh->worker[t] == w ||
			    (addr - d->from >= d->len && addr - d->to >= d->len))
				continue;
			if (!told++)
				tell("  thread %u there:\n", t);
			tell_done(d, now);
		}
	}
}

/* The line of /proc/self/maps that @addr is in. */
static void tell_mapping(uintptr_t addr)
{
	static char text[1 << 16];
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	ssize_t n;

	while (fd >= 0 && have < sizeof(text) - 1 &&
	       (n = read(fd, text + have, sizeof(text) - 1 - have)) > 0)
		have += n;
	text[have] = 0;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		uintptr_t from = strtoul(line, &line, 16), to = strtoul(line + 1, &line, 16);

		*end = 0;
		if (addr >= from && addr < to)
			tell("  maps: %lx-%lx%s\n", (long)from, (long)to, line);
	}
}

static void tell_kernel(uintptr_t addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (fd >= 0 && pread(fd, &entry, 8, addr / PAGE * 8) == 8)
		tell("  pagemap: %#llx\n", (unsigned long long)entry);
	tell_mapping(addr);
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
	tell("BROKEN: %s\n  seed %llu, ", why, (unsigned long long)conf.seed);
	if (w) {
		tell("%s %u, step %llu, pid %d, address %p\n", w->id < THREADS ? "thread" : "child",
		     w->id, (unsigned long long)w->step, getpid(), addr);
		if (addr)
			tell_page(w, (uintptr_t)addr, now);
		tell_last(w, now);
		if (addr) {
			tell_others(w, (uintptr_t)addr, now);
			tell_kernel((uintptr_t)addr);
		}
	} else {
		tell("pid %d\n", getpid());
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
