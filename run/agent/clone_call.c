/* SPDX-License-Identifier: MIT */
/*
 * Threads that the program makes by hand.
 *
 * The kernel clears a word of a thread's choice when the thread ends
 * (CLONE_CHILD_CLEARTID), and by then can't wait for a page that is away.  Of thread
 * libraries the words are known (run/scout.h); of clone() they are not, and the
 * kernel doesn't tell.  So clone() is called here first, which takes down where the word
 * is, for the supervisor to keep its page.  A system call by hand isn't seen.
 */
#include <dlfcn.h>
#include <sched.h>
#include <stdarg.h>

#include "run/agent/preload.h"

struct zd_agent_clear_tids clone_clear_tids;

/* Any thread, or a signal handler. */
static void take_down(const void *word)
{
	struct zd_agent_clear_tids *w = &clone_clear_tids;
	uint64_t addr = (uintptr_t)word;
	uint32_t nr;

	for (unsigned int i = 0; i < ZD_AGENT_CLEAR_TIDS; i++)
		if (__atomic_load_n(&w->addr[i], __ATOMIC_RELAXED) == addr)
			return;
	nr = __atomic_fetch_add(&w->nr, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&w->addr[nr % ZD_AGENT_CLEAR_TIDS], addr, __ATOMIC_RELAXED);
}

__attribute__((visibility("default")))
int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	static typeof(clone) *real;
	typeof(real) call = __atomic_load_n(&real, __ATOMIC_RELAXED);
	void *parent_tid, *tls, *child_tid;
	va_list ap;

	/* as many as there may be: those that the caller left out aren't looked at */
	va_start(ap, arg);
	parent_tid = va_arg(ap, void *);
	tls = va_arg(ap, void *);
	child_tid = va_arg(ap, void *);
	va_end(ap);
	if (!call) {
		call = (typeof(real))dlsym(RTLD_NEXT, "clone");
		__atomic_store_n(&real, call, __ATOMIC_RELAXED);
	}
	if (flags & CLONE_VM && flags & CLONE_CHILD_CLEARTID)
		take_down(child_tid);
	return call(fn, stack, flags, arg, parent_tid, tls, child_tid);
}
