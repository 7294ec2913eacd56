/* SPDX-License-Identifier: MIT */
/* SIGBUS as a result: exact counts, whoever had the signal before, any thread. */
#include "unit_test.h"

#include <pthread.h>
#include <unwind.h>
#include "base/fault_guard.h"

#define PAGE	4096u

#ifdef __SANITIZE_THREAD__
#define TSAN	1
#else
#define TSAN	0
#endif

static int foreign_calls;
static sigjmp_buf escape;

/* @good pages that can be touched, then as many that raise SIGBUS. */
static char *half(size_t good)
{
	int fd = memfd_create("half", MFD_CLOEXEC);
	char *p;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, good * PAGE), 0);
	p = mmap(NULL, 2 * good * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	close(fd);
	memset(p, 0x5a, good * PAGE);
	return p;
}

static void test_copy(void **state)
{
	static const size_t lens[] = { 0, 1, 7, 127, 128, 129, 511, 512, 4095, 4096, 8000 };
	static char src[8192], dst[8192 + 64];

	(void)state;
	for (size_t i = 0; i < sizeof(src); i++)
		src[i] = (char)(i * 7 + i / 256);
	for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
		for (size_t shift = 0; shift < 64; shift += 13) {
			memset(dst, 0, sizeof(dst));
			assert_int_equal(zd_fault_copy(dst + shift, src, lens[l]).left, 0);
			assert_memory_equal(dst + shift, src, lens[l]);
			assert_int_equal(dst[shift + lens[l]], 0);
		}
	memset(dst, 1, sizeof(dst));
	assert_int_equal(zd_fault_zero(dst + 3, 1000).left, 0);
	assert_int_equal(dst[2] + dst[1003], 2);
	assert_int_equal(dst[3] | dst[1002], 0);
}

/* How much was copied is told to the byte, whichever side fails. */
static void test_count(void **state)
{
	char *bad = half(1), *edge = bad + PAGE;
	static char good[2 * PAGE];
	uint64_t word;

	(void)state;
	/* cmocka sets a handler of its own for each test */
	assert_int_equal(zd_fault_guard_init(), 0);
	for (size_t before = 0; before < 600; before += before < 130 ? 1 : 57) {
		struct zd_fault_result r = zd_fault_copy(good, edge - before, before + 700);

		assert_int_equal(r.left, 700);
		assert_int_equal(r.addr, (uintptr_t)edge);
		r = zd_fault_copy(edge - before, good, before + 700);
		assert_int_equal(r.left, 700);
		assert_int_equal(r.addr, (uintptr_t)edge);
		r = zd_fault_zero(edge - before, before + 700);
		assert_int_equal(r.left, 700);
		assert_int_equal(r.addr, (uintptr_t)edge);
	}
	memset(bad, 0x5a, PAGE);
	memset(good, 0, sizeof(good));
	assert_int_equal(zd_fault_copy(good, edge - 300, 1000).left, 700);
	assert_int_equal(good[299], 0x5a);
	assert_int_equal(good[300], 0);
	assert_true(zd_fault_store64((uint64_t *)(edge - 8), 42));
	assert_int_equal(*(uint64_t *)(edge - 8), 42);
	assert_false(zd_fault_store64((uint64_t *)edge, 42));
	assert_true(zd_fault_load64((uint64_t *)(edge - 8), &word));
	assert_int_equal(word, 42);
	assert_false(zd_fault_load64((uint64_t *)edge, &word));
	munmap(bad, 2 * PAGE);
}

struct touch {
	volatile char *at;
	volatile int done;
};

static void touch(void *arg)
{
	struct touch *t = arg;

	t->done = 1;
	*t->at = 1;
	t->done = 2;
}

struct nested {
	struct touch t;
	char *inner;
	int rc;
};

static void nest(void *arg)
{
	struct nested *n = arg;

	n->rc = zd_fault_guard_call(touch, &n->t, n->inner, 2 * PAGE, NULL);
}

static void test_guard_call(void **state)
{
	char *a = half(1), *b = half(1);
	struct touch t = { .at = a };
	struct nested n = { .t = { .at = b + PAGE }, .inner = b };
	uintptr_t addr = 0;

	(void)state;
	/* cmocka sets a handler of its own for each test */
	assert_int_equal(zd_fault_guard_init(), 0);
	assert_int_equal(zd_fault_guard_call(touch, &t, a, 2 * PAGE, &addr), 0);
	assert_int_equal(t.done, 2);
	t.at = a + PAGE + 17;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(zd_fault_guard_call(touch, &t, a, 2 * PAGE, &addr), -EFAULT);
		assert_int_equal(t.done, 1);
		assert_int_equal(addr, (uintptr_t)t.at);
	}
	/* the inner one's fault, with the outer one around it */
	assert_int_equal(zd_fault_guard_call(nest, &n, a, 2 * PAGE, NULL), 0);
	assert_int_equal(n.rc, -EFAULT);
	/* not in the inner one's range: past it */
	n.t.at = a + PAGE;
	n.rc = 77;
	assert_int_equal(zd_fault_guard_call(nest, &n, a, 2 * PAGE, NULL), -EFAULT);
	assert_int_equal(n.rc, 77);
	/* and the guards are all off again */
	n.t.at = b + PAGE;
	assert_int_equal(zd_fault_guard_call(nest, &n, a, 2 * PAGE, NULL), 0);
	munmap(a, 2 * PAGE);
	munmap(b, 2 * PAGE);
}

static void *blocked_thread(void *arg)
{
	char *p = arg, buf[600];
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (int i = 0; i < 1000; i++)
		if (zd_fault_copy(buf, p + PAGE - 100, sizeof(buf)).left != 500)
			return "wrong count";
	return NULL;
}

/* Threads with every signal blocked, at the same time. */
static void test_threads(void **state)
{
	char *p = half(1);
	pthread_t t[4];
	void *wrong;

	(void)state;
	/* cmocka sets a handler of its own for each test */
	assert_int_equal(zd_fault_guard_init(), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, blocked_thread, p), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(t[i], &wrong), 0);
		assert_null(wrong);
	}
	munmap(p, 2 * PAGE);
}

/* --- other people's handlers; each in a child --- */

/* The status of a child that runs @fn. */
static int in_child(void (*fn)(void))
{
	struct rlimit no_core = { 0, 0 };
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		setrlimit(RLIMIT_CORE, &no_core);
		alarm(20);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

#define MUST(cond)	do { if (!(cond)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); _exit(1); } } while (0)

static struct sigaction theirs_before;

static void guards_work(char *p)
{
	char buf[600];

	MUST(zd_fault_copy(buf, p + PAGE - 100, sizeof(buf)).left == 500);
}

static void foreign(int sig, siginfo_t *info, void *uc)
{
	sigset_t now;

	(void)sig;
	(void)info;
	(void)uc;
	foreign_calls++;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	MUST(sigismember(&now, SIGBUS) == 1);
	MUST(sigismember(&now, SIGUSR1) == 1);
	siglongjmp(escape, 1);
}

static void set_theirs(void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction act = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags };

	sigemptyset(&act.sa_mask);
	sigaddset(&act.sa_mask, SIGUSR1);
	MUST(!sigaction(SIGBUS, &act, &theirs_before));
}

/* It was there first, and gets what isn't ours, with its own mask. */
static void theirs_first(void)
{
	char *p = half(1);

	signal(SIGBUS, SIG_DFL);
	set_theirs(foreign, 0);
	MUST(!zd_fault_guard_init());
	MUST(!zd_fault_guard_init());
	for (volatile int i = 0; i < 3; i++) {
		guards_work(p);
		if (!sigsetjmp(escape, 1))
			*(volatile char *)(p + PAGE) = 1;
		MUST(foreign_calls == i + 1);
	}
}

/* It comes later, and hands on what isn't its own. */
static void pass_on(int sig, siginfo_t *info, void *uc)
{
	foreign_calls++;
	MUST(foreign_calls < 100);
	if (theirs_before.sa_flags & SA_SIGINFO)
		theirs_before.sa_sigaction(sig, info, uc);
	else
		signal(SIGBUS, SIG_DFL);
}

static void theirs_later(void)
{
	char *p = half(1);

	signal(SIGBUS, SIG_DFL);
	MUST(!zd_fault_guard_init());
	set_theirs(pass_on, SA_NODEFER);
	guards_work(p);
	MUST(foreign_calls > 0);
	/* we go in front of it: they still don't call each other for ever */
	foreign_calls = 0;
	MUST(!zd_fault_guard_init());
	guards_work(p);
	MUST(foreign_calls == 0);
	*(volatile char *)(p + PAGE) = 1;
}

static void once(int sig, siginfo_t *info, void *uc)
{
	(void)sig;
	(void)info;
	(void)uc;
	foreign_calls++;
	MUST(foreign_calls == 1);
}

/* A crash handler that reports and lets it happen. */
static void theirs_once(void)
{
	char *p = half(1);

	signal(SIGBUS, SIG_DFL);
	set_theirs(once, SA_RESETHAND);
	MUST(!zd_fault_guard_init());
	*(volatile char *)(p + PAGE) = 1;
}

static void default_fault(void)
{
	char *p = half(1);

	signal(SIGBUS, SIG_DFL);
	MUST(!zd_fault_guard_init());
	guards_work(p);
	*(volatile char *)(p + PAGE) = 1;
}

static void default_sent(void)
{
	signal(SIGBUS, SIG_DFL);
	MUST(!zd_fault_guard_init());
	kill(getpid(), SIGBUS);
}

static void ignored(void)
{
	char *p = half(1);

	signal(SIGBUS, SIG_IGN);
	MUST(!zd_fault_guard_init());
	kill(getpid(), SIGBUS);
	guards_work(p);
	/* a fault can't be ignored */
	*(volatile char *)(p + PAGE) = 1;
}

/* It is put in front of ours again and again, forgets whom it replaced first, and
 * hands on to ours, which hands on to it. */
static void circle(void)
{
	char *p = half(1);

	signal(SIGBUS, SIG_DFL);
	for (int n = 0; n < 100; n++) {
		set_theirs(pass_on, SA_NODEFER);
		MUST(!zd_fault_guard_init());
		guards_work(p);
	}
	MUST(foreign_calls == 0);
	*(volatile char *)(p + PAGE) = 1;
}

/* It comes, we go in front of it, it goes: nobody calls it any more. */
static void theirs_goes(void)
{
	char *p = half(1);

	signal(SIGBUS, SIG_DFL);
	MUST(!zd_fault_guard_init());
	set_theirs(foreign, 0);
	MUST(!zd_fault_guard_init());
	MUST(!sigaction(SIGBUS, &theirs_before, NULL));
	guards_work(p);
	*(volatile char *)(p + PAGE) = 1;
}

/* --- left, and not by return --- */

static jmp_buf out;
static sigjmp_buf out_with_mask;

enum way { LONGJMP, SIGLONGJMP, FROM_HANDLER, UNWIND, WAYS };

struct leave {
	enum way way;
	unsigned int depth;
	char *range, *elsewhere;
};

static void jump_from_handler(int sig)
{
	(void)sig;
	siglongjmp(out_with_mask, 1);
}

static _Unwind_Reason_Code until_out(int version, _Unwind_Action actions,
				     _Unwind_Exception_Class class, struct _Unwind_Exception *exc,
				     struct _Unwind_Context *context, void *cfa_out)
{
	(void)version;
	(void)actions;
	(void)class;
	(void)exc;
	if (_Unwind_GetCFA(context) > (uintptr_t)cfa_out)
		longjmp(out, 1);
	return _URC_NO_REASON;
}

static void *frame_of_leave;

static void leave(void *arg)
{
	static struct _Unwind_Exception exception;
	struct leave *l = arg;

	if (l->depth--) {
		zd_fault_guard_call(leave, l, l->range, 2 * PAGE, NULL);
		return;
	}
	switch (l->way) {
	case LONGJMP:
		longjmp(out, 1);
	case SIGLONGJMP:
		siglongjmp(out_with_mask, 1);
	case FROM_HANDLER:	/* of a fault that isn't the guard's */
		*(volatile char *)l->elsewhere = 1;
		break;
	case UNWIND:		/* as an exception does, or pthread_exit() */
		_Unwind_ForcedUnwind(&exception, until_out, frame_of_leave);
	default:
		break;
	}
}

__attribute__((noinline)) static void enter_and_leave(struct leave *l)
{
	frame_of_leave = __builtin_frame_address(0);
	if (!_setjmp(out) && !sigsetjmp(out_with_mask, 1))
		zd_fault_guard_call(leave, l, l->range, 2 * PAGE, NULL);
}

/* Over the frames that there were, and with frames of its own below. */
__attribute__((noinline)) static void touch_from_below(char *at)
{
	char over[16384];

	memset(over, 0x41, sizeof(over));
	__asm__ volatile("" : : "r"(over) : "memory");
	*(volatile char *)at = 1;
}

static void leave_and_touch(enum way way, unsigned int depth)
{
	struct leave l = { .way = way, .depth = depth, .range = half(1), .elsewhere = half(1) };
	struct sigaction act = { .sa_handler = jump_from_handler };
	struct touch t = { .at = l.range + PAGE };

	MUST(!sigaction(SIGBUS, &act, NULL));
	MUST(!zd_fault_guard_init());
	l.elsewhere += PAGE;
	enter_and_leave(&l);
	/* theirs has it, for no guard is left */
	if (!sigsetjmp(out_with_mask, 1)) {
		touch_from_below(l.range + PAGE);
		MUST(!"it didn't fault");
	}
	/* and they work as before */
	MUST(zd_fault_guard_call(touch, &t, l.range, 2 * PAGE, NULL) == -EFAULT);
	_exit(0);
}

static void on_altstack(void)
{
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };

	MUST(!sigaltstack(&ss, NULL));
}

static enum way the_way;
static unsigned int the_depth;

static void leaves(void)
{
	on_altstack();
	leave_and_touch(the_way, the_depth);
}

static void test_left(void **state)
{
	(void)state;
	for (the_way = LONGJMP; the_way < WAYS; the_way++)
		for (the_depth = 0; the_depth < 4; the_depth += 3)
			assert_int_equal(in_child(leaves), 0);
}

/* --- a program that sets its handler while ours is installed --- */

static int at_start;

static void *set_mine(void *arg)
{
	struct sigaction act = { .sa_handler = jump_from_handler };

	__atomic_add_fetch(&at_start, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&at_start, __ATOMIC_ACQUIRE) < 2)
		sched_yield();
	sigaction(SIGBUS, &act, NULL);
	return arg;
}

/* Whichever comes last, theirs hears of a fault that isn't a guard's. */
static void install_and_set(void)
{
	char *bad = half(1) + PAGE;

	for (int i = 0; i < 1000; i++) {
		pthread_t t;

		signal(SIGBUS, SIG_DFL);
		at_start = 0;
		MUST(!pthread_create(&t, NULL, set_mine, NULL));
		__atomic_add_fetch(&at_start, 1, __ATOMIC_ACQ_REL);
		while (__atomic_load_n(&at_start, __ATOMIC_ACQUIRE) < 2)
			sched_yield();
		MUST(!zd_fault_guard_init());
		MUST(!pthread_join(t, NULL));
		if (!sigsetjmp(out_with_mask, 1)) {
			*(volatile char *)bad = 1;
			MUST(!"it didn't fault");
		}
	}
}

static bool died_of_it(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
}

static void test_handlers(void **state)
{
	(void)state;
	assert_int_equal(in_child(theirs_first), 0);
	assert_true(died_of_it(in_child(theirs_later)));
	assert_true(died_of_it(in_child(theirs_once)));
	assert_true(died_of_it(in_child(default_fault)));
	assert_true(died_of_it(in_child(default_sent)));
	assert_true(died_of_it(in_child(ignored)));
	assert_true(died_of_it(in_child(circle)));
	assert_true(died_of_it(in_child(theirs_goes)));
	if (!TSAN)		/* whose sigaction() is several steps */
		assert_int_equal(in_child(install_and_set), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handlers),	/* before ours is in place here */
		cmocka_unit_test(test_copy),	   cmocka_unit_test(test_count),
		cmocka_unit_test(test_guard_call), cmocka_unit_test(test_left),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
