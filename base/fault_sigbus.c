/* SPDX-License-Identifier: MIT */
/*
 * The handler of SIGBUS, one for the process.
 *
 * Mechanism.  The handler looks at where the thread was:
 *
 *	in a copy routine	go on at its fixup (fault_copy.c)
 *	in zd_fault_guard_call	the innermost guard of this thread whose range has
 *				the address: longjmp there (fault_guard.c)
 *	elsewhere		the handler that was there before ours gets the signal
 *
 * Other handlers before and after ours.  A program that sets its own handler
 * after us and chains to ours must not be chained to by that same one of ours: the
 * two would call each other for ever.  So each time that we have to go in front of
 * another one a further copy of the handler does, with a predecessor of its own; and
 * a program that takes its handler away, by putting back what it found, puts back
 * a copy that doesn't know the program's handler.  The same copy goes in front of the
 * same handler again.  Putting it there can close a circle after all, if the program's handler
 * has forgotten its first predecessor: a bit in siginfo's si_errno, which the kernel leaves 0,
 * says that a copy has had this signal already, and the copy before it goes on.
 *
 * SA_NODEFER: the signal isn't blocked inside the handler, so that a program's handler,
 * called from it, may be left by longjmp.
 *
 * Locks: install_lock, over a few system calls, in zd_fault_guard_init() alone; and in it
 * switch_lock, over one system call, for whose end a handler in another thread waits.
 */
#include "base/fault_sigbus.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/fault_guard.h"
#include "base/lock.h"
#include "zonedev/log.h"

#define MAX_INSTALLED	8
#define HAD_IT(which)	(1 << (16 + (which)))	/* in si_errno */

static struct zd_mutex install_lock;
static struct zd_mutex switch_lock;	/* held while a copy is set that may lack its predecessor */
static struct sigaction before[MAX_INSTALLED];	/* each written before its handler is set */
static unsigned int nr_installed;
static unsigned int front;	/* the copy that was set last */

/* Die of the signal as if zonedev weren't here: at the faulting instruction if there is one,
 * when the thread tries it again. */
static void die(bool fault)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	sigaction(SIGBUS, &dfl, NULL);
	if (!fault)
		syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGBUS);
}

/* Call the handler before ours as the kernel would have called it. */
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
	/* else a process sent the signal; or it tells of a page that this thread may never
	 * touch */
	bool fault = info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
	int saved = errno;

	if (fault) {
		if (zd_fault_fix_up(context, info))
			return;
		zd_fault_jump_out(context, (uintptr_t)info->si_addr);
	}
	/* Another thread is setting a copy, and is about to find out its predecessor. */
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
/* clang-format off */
HANDLER(0) HANDLER(1) HANDLER(2) HANDLER(3) HANDLER(4) HANDLER(5) HANDLER(6) HANDLER(7)

static void (*const handlers[MAX_INSTALLED])(int, siginfo_t *, void *) = {
	handler_0, handler_1, handler_2, handler_3, handler_4, handler_5, handler_6, handler_7,
};
/* clang-format on */

static bool is_ours(const struct sigaction *act)
{
	for (unsigned int i = 0; i < nr_installed; i++)
		if (act->sa_flags & SA_SIGINFO && act->sa_sigaction == handlers[i])
			return true;
	return false;
}

/* The copy that has been in front of the handler @act before, or the next copy to be made. */
static unsigned int copy_for(const struct sigaction *act)
{
	unsigned int i;

	for (i = 0; i < nr_installed; i++)
		if (before[i].sa_handler == act->sa_handler)
			break;
	return i;
}

/* A plugin's host may unload the plugin, and with it this library; a handler must stay. */
static void stay_loaded(void)
{
	Dl_info info;

	if (dladdr((void *)handlers[0], &info) && info.dli_fname)
		dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

/* The copy for @act, an old one or a new one; MAX_INSTALLED: there are too many. */
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
 * Put a copy in front of @theirs, the handler that was seen to be set.  If the program has set
 * another handler since, sigaction() says so when it sets the copy: then the copy for that
 * handler is set.  Meanwhile a copy that runs in another thread waits (handle()); in this thread
 * SIGBUS is blocked.
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
		err = -EBUSY;	/* for the next turn, if there is no copy for @old */
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
