/* SPDX-License-Identifier: MIT */
/*
 * Threads that the program makes by clone().
 *
 * The kernel clears a word of a thread's choice when the thread ends
 * (CLONE_CHILD_CLEARTID), and by then can't wait for a page that is away.  Where thread
 * libraries have that word is known (run/scout.h); where a clone() of the program has it is
 * not, and the kernel doesn't tell.  So clone() comes through here, and the word's address is
 * taken down: the supervisor lets no page with such a word go out.  A clone that is made by a
 * bare system call isn't seen.
 */
#include <dlfcn.h>
#include <sched.h>
#include <stdarg.h>

#include "run/agent/preload.h"

struct zd_agent_clear_tids clone_clear_tids;

/* Context: any thread, or a signal handler.  Lock-free; when there are too many addresses the
 * oldest is overwritten. */
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

	/* as many as there may be: the kernel ignores those that the caller left out */
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
