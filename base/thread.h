/* SPDX-License-Identifier: MIT */
/*
 * Threads of zonedev's own, in a program whose memory may be managed.
 *
 * Such a thread's stack is memory of zonedev's own, and all its signals are blocked: signals
 * are the program's, and a handler of the program on this stack could touch managed memory,
 * which may be what the thread itself is to bring home.
 */
#ifndef ZD_BASE_THREAD_H
#define ZD_BASE_THREAD_H

#include <pthread.h>

#define ZD_THREAD_STACK	(2 * 1024 * 1024)

struct zd_thread {
	pthread_t thread;
	void *stack;		/* ZD_THREAD_STACK bytes; NULL: not started */
};

/*
 * zd_thread_start - run @fn(@arg) in a thread that `top -H` shows as @name (of which the kernel
 * keeps 15 characters).  libc may malloc for it, in the calling thread.  0, or -errno.
 *
 * zd_thread_join - wait for its end.  One that isn't started is left alone.
 *
 * zd_thread_forget - in the child of a fork, where the thread isn't: give its stack back.
 */
int zd_thread_start(struct zd_thread *t, const char *name, void *(*fn)(void *arg), void *arg);
void zd_thread_join(struct zd_thread *t);
void zd_thread_forget(struct zd_thread *t);

#endif
