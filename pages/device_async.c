/* SPDX-License-Identifier: MIT */
/*
 * Devices whose driver completes batches from any thread: ZD_DEVICE_ASYNC.
 *
 * Mechanism.  zd_io_complete_any() pushes the batch on a stack and, where the stack was empty,
 * makes an eventfd readable: a burst costs one write(2).  ->submit, ->reap and ->event_fd of
 * such a device are the ones here.  ->reap takes the whole stack, turns it round, and calls
 * ->done of each batch in the order in which they were completed, in the thread that drives the
 * device (the server's, or one that has no server).  A batch that the driver completes inside
 * its ->submit, in that very thread, needs neither stack nor eventfd, and is done before
 * ->submit returns.
 *
 * Invariants.  in_flight counts what was submitted and not yet done; the driving thread alone
 * looks at it.  A batch on the stack is nobody's but the stack's: io->next links it.  Whoever
 * finds the stack empty writes to the eventfd after its push; so a stack that isn't empty has an
 * eventfd that is readable, or that a thread is about to write to.  ->reap reads the eventfd
 * before it takes the stack: what is pushed later makes the eventfd readable again.  So none is
 * missed, and a ->reap may find nothing.
 *
 * Ordering.  The push releases and taking the stack acquires: what the driver stored in
 * io->pages, and in the buffers, is seen by ->done.  Nothing is popped but the whole stack, so
 * a head that has come back (ABA) is still the head.
 *
 * A batch that is completed a second time before its ->done is marked (ZD_IO_COMPLETED), and the
 * second time ignored; once it is at rest that can't be told any more, and in_flight is wrong.
 *
 * The end.  The thread that completes the last batch may still be about to write to the eventfd
 * when the driving thread has already called ->done and the device is unregistered.  So
 * `inside` counts the threads in zd_io_complete_any(), and zd_device_async_exit() waits until
 * there are none: as long as a write(2) to an eventfd takes.
 *
 * No call here mallocs or takes a lock.  A fork copies a stack that is empty or not, and each
 * process's own threads serve it; the child of a process with threads inside doesn't wait for
 * these, which it doesn't have.
 */
#include "pages/device_async.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/lock.h"
#include "base/rawsys.h"
#include "pages/ioq.h"
#include "zonedev/device.h"
#include "zonedev/log.h"

struct zd_device_async {
	struct zd_device_io *stack;	/* __atomic; completed, the last one first */
	uint32_t inside;		/* __atomic; threads in zd_io_complete_any() */
	const void *submitter;		/* __atomic; the thread in the driver's ->submit */
	/* the driving thread's */
	unsigned int in_flight;
	struct zd_io_finisher finisher;
	struct zd_process process;	/* whose threads `inside` counts */
	void (*submit)(struct zd_device *dev, struct zd_device_io *io);	/* the driver's */
	void (*on_reap)(struct zd_device *dev);	/* or NULL */
	int event;
};

static const void *this_thread(void)
{
	return __builtin_thread_pointer();
}

/* The driving thread. */
static void finished(struct zd_device_async *a, struct zd_device_io *io)
{
	ZD_BUG_ON(!a->in_flight, "a batch was completed that isn't in flight");
	a->in_flight--;
	zd_ioq_push(&a->finisher.done, io);
}

/* Raw: a driver's thread may be cancelled, or care for its errno.  The eventfd doesn't block;
 * its counter could only be full after 2^64 - 2 writes that nobody has read. */
static void make_readable(struct zd_device_async *a)
{
	static const uint64_t one = 1;

	raw_syscall(SYS_write, a->event, (long)&one, sizeof(one), 0, 0, 0);
}

void zd_io_complete_any(struct zd_device *dev, struct zd_device_io *io)
{
	struct zd_device_async *a = dev->async;
	struct zd_device_io *head;

	ZD_BUG_ON(!a, "%s: a device without ZD_DEVICE_ASYNC completes a batch from any thread",
		  dev->name);
	/* A batch that were linked twice would make a list without an end.  Relaxed: the mark is
	 * of the batch that this thread owns; it is for a driver whose threads both believe so. */
	if (__atomic_fetch_or((uint32_t *)&io->dir, ZD_IO_COMPLETED, __ATOMIC_RELAXED) &
	    ZD_IO_COMPLETED) {
		zd_warn_once("%s: its driver completes a batch twice: the second time is ignored",
			     dev->name);
		return;
	}
	/* Relaxed: only this thread itself can have stored what it compares equal to. */
	if (__atomic_load_n(&a->submitter, __ATOMIC_RELAXED) == this_thread()) {
		finished(a, io);
		return;
	}
	/* Relaxed: the push below releases it. */
	__atomic_fetch_add(&a->inside, 1, __ATOMIC_RELAXED);
	head = __atomic_load_n(&a->stack, __ATOMIC_RELAXED);
	do {
		io->next = head;
		/* Release: pairs with the acquire in take(). */
	} while (!__atomic_compare_exchange_n(&a->stack, &head, io, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	if (!head)
		make_readable(a);
	/* Release: pairs with the acquire in zd_device_async_exit(), which frees @a. */
	__atomic_fetch_sub(&a->inside, 1, __ATOMIC_RELEASE);
}

/* All that is on the stack becomes finished, first come, first served. */
static void take(struct zd_device_async *a)
{
	/* Acquire: pairs with the release in zd_io_complete_any(). */
	struct zd_device_io *io = __atomic_exchange_n(&a->stack, NULL, __ATOMIC_ACQUIRE);
	struct zd_device_io *next, *first = NULL;

	for (; io; io = next) {
		next = io->next;
		io->next = first;
		first = io;
	}
	for (io = first; io; io = next) {
		next = io->next;
		finished(a, io);
	}
}

static void async_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct zd_device_async *a = dev->async;
	const void *outer = a->submitter;	/* ->done of a batch may submit */

	a->in_flight++;
	__atomic_store_n(&a->submitter, this_thread(), __ATOMIC_RELAXED);
	a->submit(dev, io);
	__atomic_store_n(&a->submitter, outer, __ATOMIC_RELAXED);
	zd_io_finish(&a->finisher);
}

/* May block with @wait. */
static int async_reap(struct zd_device *dev, bool wait)
{
	struct zd_device_async *a = dev->async;
	struct pollfd event = { .fd = a->event, .events = POLLIN };
	uint64_t count;
	int nr = 0;

	do {
		if (wait && a->in_flight)
			poll(&event, 1, -1);
		raw_syscall(SYS_read, a->event, (long)&count, sizeof(count), 0, 0, 0);
		take(a);
		nr += zd_io_finish(&a->finisher);
	} while (wait && !nr && a->in_flight);
	if (a->on_reap)
		a->on_reap(dev);
	return nr;
}

static int async_event_fd(struct zd_device *dev)
{
	return dev->async->event;
}

int zd_device_async_init(struct zd_device *dev, struct zd_device_ops *ops)
{
	struct zd_device_async *a = zd_alloc(sizeof(*a));
	int err;

	if (!a)
		return -ENOMEM;
	a->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->event < 0) {
		err = -errno;
		zd_free(a);
		return err;
	}
	a->process = zd_this_process();
	a->submit = ops->submit;
	ops->submit = async_submit;
	ops->reap = async_reap;
	ops->event_fd = async_event_fd;
	dev->async = a;
	return 0;
}

void zd_device_async_on_reap(struct zd_device *dev, void (*on_reap)(struct zd_device *dev))
{
	dev->async->on_reap = on_reap;
}

void zd_device_async_poke(struct zd_device *dev)
{
	make_readable(dev->async);
}

void zd_device_async_exit(struct zd_device *dev)
{
	struct zd_device_async *a = dev->async;
	uint32_t inside;

	if (!a)
		return;
	dev->async = NULL;
	/* Acquire: pairs with the release in zd_io_complete_any().  Nobody wakes this wait, which
	 * is hardly ever needed: a wake-up would come after the last use of @a. */
	while (zd_is_this_process(&a->process) &&
	       (inside = __atomic_load_n(&a->inside, __ATOMIC_ACQUIRE)))
		zd_futex_wait(&a->inside, inside, 1);
	close(a->event);
	zd_free(a);
}
