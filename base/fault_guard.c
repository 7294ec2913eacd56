/* SPDX-License-Identifier: MIT */
/*
 * Guards: functions that are ended where they fault.
 *
 * Mechanism.  Each thread has a list of its guards, the innermost first, in TLS of the
 * initial-exec kind, since a signal handler can't allocate.  The handler of SIGBUS
 * (fault_sigbus.c) asks for the innermost one whose range has the address, and goes on in
 * zd_fault_guard_call() by longjmp.
 *
 * A guard's frame may be left in other ways than by return, and the guard must be off the
 * list then: other frames use its stack.  An exception, pthread_exit() and a cancellation
 * unwind the frame, and so run the cleanup of the variable.  longjmp() doesn't unwind; but
 * glibc's calls the handlers that were pushed with _pthread_cleanup_push() in the frames
 * that it leaves.
 */
#include "base/fault_guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/fault_sigbus.h"
#include "base/tls.h"

struct guard {
	struct guard *outer;
	uintptr_t start, end;
	uintptr_t addr;
	jmp_buf env;
	struct _pthread_cleanup_buffer left;
};

static ZD_TLS struct guard *guards;	/* innermost first */

/* Declared here: <pthread.h> knows them no more.  Weak, for a C library without them. */
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

/* Not with ASan, which would keep the guard off the stack: the guard's address tells whether
 * its frame was left.  Any thread, not in a signal handler. */
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
		/* the handler has taken the guard off the list */
		if (addr)
			*addr = guard.addr;
		return -EFAULT;
	}
	/* A handler in this thread reads @guards: the guard is complete before. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	guards = &guard;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	fn(arg);
	return 0;
}

/*
 * Take the guards off the list whose frames were left unnoticed: by a longjmp() from a signal
 * stack that lies in the thread's own stack, which glibc doesn't follow.  A guard below the
 * stack pointer is gone, unless @sp is in a signal stack.  In the signal handler.
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

void zd_fault_jump_out(const ucontext_t *uc, uintptr_t addr)
{
	drop_left((uintptr_t)uc->uc_mcontext.gregs[REG_RSP]);
	for (struct guard *g = guards; g; g = g->outer) {
		if (addr < g->start || addr >= g->end)
			continue;
		g->addr = addr;
		guards = g->outer;
		/* Our handler is set to change no mask, but a program that wraps handlers may
		 * have changed it.  Eight bytes: all that the kernel has put there. */
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &uc->uc_sigmask, NULL, 8);
		/* ends the guards of the frames between (guard_left()); a sanitizer knows it by
		 * this name */
		longjmp(g->env, 1);
	}
}
