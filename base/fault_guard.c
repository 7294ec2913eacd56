/* SPDX-License-Identifier: MIT */
/*
 * SIGBUS as a result.
 *
 * Mechanism.  One handler for the process.  It looks at where the thread was:
 *
 *	in a copy routine	go on at its fixup (fault_copy.c)
 *	in zd_fault_guard_call	the innermost guard of this thread whose range has
 *				the address: longjmp there
 *	elsewhere		whoever had the signal before us gets it
 *
 * The handlers in front of others' handlers.  A program that sets its own handler
 * after us and chains to ours must not be chained to by that same one of ours: the
 * two would call each other for ever.  So each time that we have to go in front of
 * another one a further copy of the handler does, with a predecessor of its own; and
 * a program that takes its handler away, by putting back what it found, puts back
 * one that knows nothing of it.  The same copy goes in front of the same handler
 * again.  That can close a circle after all, if the other one forgot its first
 * predecessor over that: a bit in siginfo's si_errno, which the kernel leaves 0, says
 * that a copy has had this signal already, and the one before it goes on.
 *
 * SA_NODEFER: the signal isn't blocked inside the handler, so that a handler of
 * theirs may be left by longjmp.  Guards live in TLS of the
 * initial-exec kind: a signal handler can't allocate.
 *
 * Locks: install_lock, over a few system calls, in zd_fault_guard_init() alone; and in it
 * switch_lock, over one system call, for whose end a handler in another thread waits.
 */
#include "base/fault_guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/fault_copy.h"
#include "base/lock.h"
#include "base/tls.h"
#include "zonedev/log.h"

#define MAX_INSTALLED	8
#define HAD_IT(which)	(1 << (16 + (which)))	/* in si_errno */

/* --- guarded calls --- */

struct guard {
	struct guard *outer;
	uintptr_t start, end;
	uintptr_t addr;
	jmp_buf env;
	struct _pthread_cleanup_buffer left;
};

static ZD_TLS struct guard *guards;	/* innermost first */

/*
 * A guard's frame may be left in other ways than by return, and the guard must be off the
 * list then: other frames use its stack.  An exception, pthread_exit() and a cancellation unwind it,
 * and so run the cleanup of the variable.  longjmp() doesn't unwind; but glibc's calls the
 * handlers that were pushed with _pthread_cleanup_push() in the frames that it leaves.
 * (Declared here: <pthread.h> knows it no more.  Weak, for a C library without it.)
 */
extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buffer,
				  void (*routine)(void *arg), void *arg) __attribute__((weak));
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buffer, int execute)
	__attribute__((weak));

static void guard_left(void *guard)
{
	guards = ((struct guard *)guard)->outer;
}

static void guard_end(struct guard *guard)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	guards = guard->outer;
	if (_pthread_cleanup_pop)
		_pthread_cleanup_pop(&guard->left, 0);
}

/* The sanitizer would keep the guard elsewhere; where it is tells whether it was left. */
__attribute__((no_sanitize_address))
int zd_fault_guard_call(void (*fn)(void *arg), void *arg, const void *start, size_t len,
			uintptr_t *addr)
{
	__attribute__((cleanup(guard_end))) struct guard guard;

	guard.outer = guards;
	guard.start = (uintptr_t)start;
	guard.end = guard.start + len;
	if (_pthread_cleanup_push)
		_pthread_cleanup_push(&guard.left, guard_left, &guard);
	zd_fault_unblock();
	if (_setjmp(guard.env)) {
		/* the handler has taken it off the list */
		if (addr)
			*addr = guard.addr;
		return -EFAULT;
	}
	/* The handler of this thread reads it: the guard is complete before. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	guards = &guard;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	fn(arg);
	return 0;
}

/*
 * glibc doesn't come by what is left from a signal stack that lies in the thread's own.  A
 * guard below the stack pointer is gone, unless that is the signal stack's.
 */
static void drop_left(uintptr_t sp)
{
	stack_t ss;

	if (!guards || (uintptr_t)guards >= sp)
		return;
	if (!sigaltstack(NULL, &ss) && !(ss.ss_flags & SS_DISABLE) &&
	    sp - (uintptr_t)ss.ss_sp < ss.ss_size)
		return;
	while (guards && (uintptr_t)guards < sp)
		guards = guards->outer;
}

static void jump_out(const ucontext_t *uc, uintptr_t addr)
{
	drop_left((uintptr_t)uc->uc_mcontext.gregs[REG_RSP]);
	for (struct guard *g = guards; g; g = g->outer) {
		if (addr < g->start || addr >= g->end)
			continue;
		g->addr = addr;
		guards = g->outer;
		/* ours is set to change nothing, but who wraps handlers may have.  Eight
		 * bytes: all that the kernel has put there */
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &uc->uc_sigmask, NULL, 8);
		/* it ends the guards of the frames between, see guard_left(); by this name
		 * a sanitizer knows it */
		longjmp(g->env, 1);
	}
}

/* --- the handler --- */

static struct zd_mutex install_lock;
static struct zd_mutex switch_lock;	/* a handler is set, the one before it not known yet */
static struct sigaction before[MAX_INSTALLED];	/* each written before its handler is set */
static unsigned int nr_installed;
static unsigned int front;	/* the copy that was set last */

/* Die of it as if we weren't here: at the faulting instruction if there is one,
 * when that is tried again. */
static void die(bool fault)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	sigaction(SIGBUS, &dfl, NULL);
	if (!fault)
		syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGBUS);
}

/* As the kernel would have called it. */
static void call_before(struct sigaction *old, siginfo_t *info, void *uc, bool fault)
{
	struct sigaction act = *old;
	sigset_t mask = act.sa_mask, saved;

	if (act.sa_handler == SIG_IGN && !fault)
		return;
	if (act.sa_handler == SIG_DFL || act.sa_handler == SIG_IGN) {
		die(fault);
		return;
	}
	if (act.sa_flags & SA_RESETHAND)
		old->sa_handler = SIG_DFL;
	if (!(act.sa_flags & SA_NODEFER))
		sigaddset(&mask, SIGBUS);
	pthread_sigmask(SIG_BLOCK, &mask, &saved);
	if (act.sa_flags & SA_SIGINFO)
		act.sa_sigaction(SIGBUS, info, uc);
	else
		act.sa_handler(SIGBUS);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

static void handle(unsigned int which, siginfo_t *info, void *context)
{
	/* else somebody sent it; or it is news of a page that this thread may never touch */
	bool fault = info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
	int saved = errno;

	if (fault) {
		if (zd_fault_fix_up(context, info))
			return;
		jump_out(context, (uintptr_t)info->si_addr);
	}
	/* being set by another thread, which is about to find out what comes next */
	while (zd_mutex_is_locked(&switch_lock)) {
		sched_yield();
		which = __atomic_load_n(&front, __ATOMIC_RELAXED);
	}
	while (info->si_errno & HAD_IT(which)) {
		if (!which--) {
			die(fault);
			return;
		}
	}
	info->si_errno |= HAD_IT(which);
	call_before(&before[which], info, context, fault);
	errno = saved;
}

#define HANDLER(n)								\
	static void handler_##n(int sig, siginfo_t *info, void *uc)		\
	{									\
		(void)sig;							\
		handle(n, info, uc);						\
	}
HANDLER(0) HANDLER(1) HANDLER(2) HANDLER(3) HANDLER(4) HANDLER(5) HANDLER(6) HANDLER(7)

static void (*const handlers[MAX_INSTALLED])(int, siginfo_t *, void *) = {
	handler_0, handler_1, handler_2, handler_3, handler_4, handler_5, handler_6, handler_7,
};

static bool is_ours(const struct sigaction *act)
{
	for (unsigned int i = 0; i < nr_installed; i++)
		if (act->sa_flags & SA_SIGINFO && act->sa_sigaction == handlers[i])
			return true;
	return false;
}

/* The copy that was in front of the same handler, or the next one to be made. */
static unsigned int copy_for(const struct sigaction *act)
{
	unsigned int i;

	for (i = 0; i < nr_installed; i++)
		if (before[i].sa_handler == act->sa_handler)
			break;
	return i;
}

/* A plugin's host may unload it; a handler must stay. */
static void stay_loaded(void)
{
	Dl_info info;

	if (dladdr((void *)handlers[0], &info) && info.dli_fname)
		dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

/* The copy for @act, one that there is or a new one; MAX_INSTALLED: there are too many. */
static unsigned int prepare(const struct sigaction *act)
{
	unsigned int which = copy_for(act);

	if (which == nr_installed && which < MAX_INSTALLED) {
		before[which] = *act;
		nr_installed++;
	}
	return which;
}

/*
 * Put a copy in front of @theirs, the handler that was seen to be set.  Another handler may
 * have been set since, which the same call that sets ours tells: then the copy for that one.  A
 * handler in another thread waits meanwhile, see handle(); in this thread there is none.
 */
static int go_in_front(struct sigaction theirs)
{
	struct sigaction act = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER }, old;
	sigset_t all, saved;
	int err = -EBUSY;

	sigemptyset(&act.sa_mask);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	zd_mutex_lock(&switch_lock);
	for (;; theirs = old) {
		unsigned int which = prepare(&theirs);

		if (which == MAX_INSTALLED)
			break;
		__atomic_store_n(&front, which, __ATOMIC_RELAXED);
		act.sa_sigaction = handlers[which];
		err = sigaction(SIGBUS, &act, &old) ? -errno : 0;
		if (err || old.sa_handler == theirs.sa_handler || is_ours(&old))
			break;
		err = -EBUSY;	/* if there is no copy for it */
	}
	if (err == -EBUSY)
		sigaction(SIGBUS, &theirs, NULL);
	zd_mutex_unlock(&switch_lock);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	return err;
}

static int install(void)
{
	struct sigaction theirs;
	int err;

	if (sigaction(SIGBUS, NULL, &theirs))
		return -errno;
	if (is_ours(&theirs))
		return 0;
	if (!nr_installed)
		stay_loaded();
	err = go_in_front(theirs);
	if (err == -EBUSY)
		zd_warn_once("SIGBUS has been given a new handler too often");
	return err;
}

int zd_fault_guard_init(void)
{
	int err;

	zd_mutex_lock(&install_lock);
	err = install();
	zd_mutex_unlock(&install_lock);
	return err;
}
