/* SPDX-License-Identifier: MIT */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/alloc.h"

void zd_thread_forget(struct zd_thread *t)
{
	if (t->stack)
		zd_unreserve(t->stack, ZD_THREAD_STACK);
	t->stack = NULL;
}

int zd_thread_start(struct zd_thread *t, const char *name, void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, old;
	char comm[16];
	int rc;

	/* Lazily committed, so cheap; the program's static TLS is in it as well. */
	t->stack = zd_reserve(ZD_THREAD_STACK);
	if (!t->stack)
		return -ENOMEM;
	pthread_attr_init(&attr);
	rc = pthread_attr_setstack(&attr, t->stack, ZD_THREAD_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!rc)
		rc = pthread_create(&t->thread, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc) {
		zd_thread_forget(t);
		return -rc;
	}
	snprintf(comm, sizeof(comm), "%s", name);
	pthread_setname_np(t->thread, comm);
	return 0;
}

void zd_thread_join(struct zd_thread *t)
{
	if (!t->stack)
		return;
	pthread_join(t->thread, NULL);
	zd_thread_forget(t);
}
