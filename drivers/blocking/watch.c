/* SPDX-License-Identifier: MIT */
/*
 * The watch: a thread that looks after what the workers can't, who may all be in the driver:
 * deadlines, calls that don't return, and a removal that begins meanwhile.  It sleeps while
 * there is nothing to watch, and goes to sleep only after a period without any, so that it need
 * not be woken for each batch.
 */
#include <errno.h>

#include "base/time.h"
#include "drivers/blocking/blocking.h"
#include "zonedev/log.h"

#define PERIOD_MS	1000
#define SLOW_NS		10000000000ull
#define NS_PER_MS	1000000ull

/* A call that takes long, for the log. */
struct slow_call {
	enum blocking_work work;
	uint64_t first, nr;
};

static uint64_t due_ns(const struct blocking *b, const struct zd_device_io *io)
{
	return (uintptr_t)io->driver + b->attr.deadline_ms * NS_PER_MS;
}

/* What nobody has taken in time.  Returns when the next is due, or @next. */
static uint64_t look_at_lanes(struct blocking *b, uint64_t now, uint64_t next, struct zd_ioq *done)
{
	for (unsigned int i = 0; i < NR_LANES; i++) {
		struct blocking_lane *lane = &b->lane[i];
		struct zd_device_io *io;

		while ((io = lane->q.head) && due_ns(b, io) <= now) {
			b->late += io->nr - lane->taken;
			zd_blocking_drop_first(b, lane, done);
		}
		if (io && due_ns(b, io) < next)
			next = due_ns(b, io);
	}
	return next;
}

/* The pages of @w, whose call goes on. */
static void answer_late(struct blocking *b, struct blocking_worker *w, struct zd_ioq *done)
{
	struct zd_device_io *io = w->io;

	for (unsigned int i = 0; i < w->nr; i++)
		io->pages[w->slot + i].error = -EAGAIN;
	b->late += w->nr;
	w->io = NULL;
	/* Before the batch is completed, which is what makes the engine give the pages back:
	 * free_index() must see it by then. */
	if (w->work == WORK_WRITE)
		__atomic_store_n(&b->late_writes, b->late_writes + 1, __ATOMIC_RELAXED);
	zd_blocking_answered(b, io, w->nr, done);
}

static uint64_t look_at_calls(struct blocking *b, uint64_t now, uint64_t next, struct zd_ioq *done)
{
	for (unsigned int i = 0; i < b->attr.threads; i++) {
		struct blocking_worker *w = &b->worker[i];

		if (!w->io)
			continue;
		if (due_ns(b, w->io) > now)
			next = due_ns(b, w->io) < next ? due_ns(b, w->io) : next;
		else if (w->copying)
			next = now + NS_PER_MS;
		else
			answer_late(b, w, done);
	}
	return next;
}

/* True: a call is running.  The first that takes long, and was not told of, goes to @slow. */
static bool look_for_slow(struct blocking *b, uint64_t now, struct slow_call *slow)
{
	bool running = false;

	for (unsigned int i = 0; i < b->attr.threads; i++) {
		struct blocking_worker *w = &b->worker[i];

		if (w->work == WORK_NONE)
			continue;
		running = true;
		if (w->told || slow->work || now < w->begun_ns + SLOW_NS)
			continue;
		w->told = true;
		*slow = (struct slow_call){ w->work, w->first, w->nr };
	}
	return running;
}

static void tell(struct blocking *b, const struct slow_call *slow)
{
	static const char *const what[] = {
		[WORK_READ] = "read",
		[WORK_WRITE] = "write",
		[WORK_DISCARD] = "discard",
	};

	if (slow->work)
		zd_log(ZD_LOG_WARN,
		       "%s: a %s of %llu pages from page %llu on has not returned for "
		       "%llu s",
		       b->dev.name, what[slow->work], (unsigned long long)slow->nr,
		       (unsigned long long)slow->first, SLOW_NS / (1000 * NS_PER_MS));
}

/* With the lock.  Returns how long the watch may sleep, in ms; -1: until it is woken. */
static int look(struct blocking *b, uint64_t *activity, struct zd_ioq *done, struct slow_call *slow)
{
	uint64_t now = zd_now_ns(), next = now + PERIOD_MS * NS_PER_MS;
	bool quiet = *activity == b->activity && !b->lane[LANE_READ].q.head &&
		     !b->lane[LANE_WRITE].q.head;

	*activity = b->activity;
	zd_blocking_cancel(b, done);
	if (b->attr.deadline_ms) {
		/* what comes later is not due before */
		if (next > now + b->attr.deadline_ms * NS_PER_MS)
			next = now + b->attr.deadline_ms * NS_PER_MS;
		next = look_at_lanes(b, now, next, done);
		next = look_at_calls(b, now, next, done);
	}
	if (!look_for_slow(b, now, slow) && quiet)
		return -1;
	return (next - now + NS_PER_MS - 1) / NS_PER_MS;
}

void *zd_blocking_watch(void *arg)
{
	struct blocking *b = arg;
	uint64_t activity = 0;

	zd_mutex_lock(&b->lock);
	while (!b->stop) {
		struct zd_ioq done = { 0 };
		struct slow_call slow = { 0 };
		int ms = look(b, &activity, &done, &slow);
		uint32_t seen = b->watch_word;

		b->watching = ms >= 0;
		zd_mutex_unlock(&b->lock);
		zd_blocking_complete(b, &done);
		tell(b, &slow);
		zd_futex_wait(&b->watch_word, seen, ms);
		zd_mutex_lock(&b->lock);
	}
	zd_mutex_unlock(&b->lock);
	return NULL;
}

void zd_blocking_wake_watch(struct blocking *b)
{
	if (b->watching && !b->stop)
		return;
	b->watching = true;
	__atomic_store_n(&b->watch_word, b->watch_word + 1, __ATOMIC_RELAXED);
	zd_futex_wake(&b->watch_word, 1);
}
