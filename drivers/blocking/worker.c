/* SPDX-License-Identifier: MIT */
/* The workers: they call the driver; see blocking.h. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/blocking/blocking.h"
#include "pages/pagemap.h"
#include "zonedev/log.h"

/* The watch may have answered: nobody waits for the rest of the call. */
static bool is_late(struct blocking_worker *w)
{
	bool late;

	zd_mutex_lock(&w->b->lock);
	late = !w->io;
	zd_mutex_unlock(&w->b->lock);
	return late;
}

static int call_driver(struct blocking_worker *w, unsigned int i, unsigned int nr, char *buf)
{
	struct blocking *b = w->b;
	int rc = w->work == WORK_READ ? b->ops.read(b->attr.priv, w->first + i, nr, buf) :
					b->ops.write(b->attr.priv, w->first + i, nr, buf);

	if (rc <= 0)
		return rc;
	zd_warn_once("%s: the driver's %s has returned %d, which is taken for -EIO", b->dev.name,
		     w->work == WORK_READ ? "read" : "write", rc);
	return -EIO;
}

/* Such an error may be of one page of a run. */
static bool is_of_a_page(int rc)
{
	return rc == -EIO || rc == -ENOSPC;
}

/* The driver's call, and each page alone where that may help.  Results go to @error.  Returns how
 * many pages were tried alone. */
static unsigned int transfer(struct blocking_worker *w, char *buf, int *error)
{
	int rc = call_driver(w, 0, w->nr, buf);
	unsigned int i, alone = 0;

	while (w->nr > 1 && is_of_a_page(rc) && alone < w->nr) {
		int one = is_late(w) ? -EAGAIN :
				       call_driver(w, alone, 1, buf + alone * ZD_PAGE_SIZE);

		if (one && !is_of_a_page(one))
			rc = one;	/* for the rest, too */
		error[alone++] = one;
	}
	for (i = alone; i < w->nr; i++)
		error[i] = rc;
	return alone;
}

/* Between the batch's memory and the worker's own, which only w->copying allows.  The direction
 * is the batch's. */
static void copy(struct blocking_worker *w, struct zd_device_io *io, const int *error)
{
	for (unsigned int i = 0; i < w->nr; i++) {
		char *mine = w->bounce + i * ZD_PAGE_SIZE;
		void *buf = io->pages[w->slot + i].buf;

		if (w->work == WORK_WRITE)
			memcpy(mine, buf, ZD_PAGE_SIZE);
		else if (!error[i])
			memcpy(buf, mine, ZD_PAGE_SIZE);
	}
}

/* With the lock, which is dropped meanwhile.  False: the watch has answered. */
static bool copy_back(struct blocking *b, struct blocking_worker *w, const int *error)
{
	struct zd_device_io *io = w->io;

	if (!io)
		return false;
	if (!w->bounce || w->work != WORK_READ)
		return true;
	w->copying = true;
	zd_mutex_unlock(&b->lock);
	copy(w, io, error);
	zd_mutex_lock(&b->lock);
	w->copying = false;
	return true;
}

static void copy_out(struct blocking_worker *w)
{
	if (!w->copying)
		return;
	copy(w, w->io, NULL);
	zd_mutex_lock(&w->b->lock);
	w->copying = false;
	zd_mutex_unlock(&w->b->lock);
}

static void read_or_write(struct blocking *b, struct blocking_worker *w)
{
	int error[ZD_BLOCKING_RUN];
	struct zd_ioq done = { 0 };
	uint64_t freed = 0, first = w->first;
	unsigned int alone;

	copy_out(w);
	alone = transfer(w, w->bounce ? w->bounce : w->io->pages[w->slot].buf, error);
	zd_mutex_lock(&b->lock);
	b->retries += alone;
	if (copy_back(b, w, error)) {
		for (unsigned int i = 0; i < w->nr; i++) {
			w->io->pages[w->slot + i].error = error[i];
			b->errors += error[i] != 0;
		}
		zd_blocking_answered(b, w->io, w->nr, &done);
	} else if (w->work == WORK_WRITE) {
		freed = w->freed;
		__atomic_store_n(&b->late_writes, b->late_writes - 1, __ATOMIC_RELAXED);
	}
	b->nr_slow -= w->work == WORK_WRITE;
	w->work = WORK_NONE;
	w->io = NULL;
	zd_mutex_unlock(&b->lock);
	zd_blocking_free_late(b, first, freed);
	zd_blocking_complete(b, &done);
}

static void discard(struct blocking *b, struct blocking_worker *w)
{
	bool going = zd_percpu_ref_is_dying(&b->dev.pgmap.priv->ref);
	int rc = going ? -ENODEV : b->ops.discard(b->attr.priv, w->first, w->nr);

	if (rc && !going)
		zd_warn_once("%s: can't give back freed pages: %s", b->dev.name,
			     strerror(rc < 0 ? -rc : EIO));
	zd_pool_return_idle(&b->pool, w->first, w->nr);
	zd_mutex_lock(&b->lock);
	b->discard_pages += rc ? 0 : w->nr;
	b->trim_nr = 0;
	b->nr_slow--;
	w->work = WORK_NONE;
	zd_mutex_unlock(&b->lock);
	if (!going)
		zd_blocking_want_trim(b);	/* there may be more */
}

/* With the lock. */
void zd_blocking_wake(struct blocking *b)
{
	if (!b->asleep)
		return;
	__atomic_store_n(&b->work, b->work + 1, __ATOMIC_RELAXED);
	zd_futex_wake(&b->work, 1);
}

/* With the lock, which is dropped meanwhile. */
static void sleep_for_work(struct blocking *b)
{
	uint32_t seen = b->work;

	b->asleep++;
	zd_mutex_unlock(&b->lock);
	zd_futex_wait(&b->work, seen, -1);
	zd_mutex_lock(&b->lock);
	b->asleep--;
}

/* With the lock, which is dropped where there was something to cancel. */
static bool cancel(struct blocking *b)
{
	struct zd_ioq done = { 0 };

	zd_blocking_cancel(b, &done);
	if (!done.head)
		return false;
	zd_mutex_unlock(&b->lock);
	zd_blocking_complete(b, &done);
	zd_mutex_lock(&b->lock);
	return true;
}

static void *work(void *arg)
{
	struct blocking_worker *w = arg;
	struct blocking *b = w->b;

	zd_mutex_lock(&b->lock);
	while (!b->stop) {
		if (cancel(b))
			continue;
		if (!zd_blocking_take(b, w)) {
			sleep_for_work(b);
			continue;
		}
		/* each wakes one more, as long as there is work */
		if (zd_blocking_has_work(b))
			zd_blocking_wake(b);
		zd_mutex_unlock(&b->lock);
		if (w->work == WORK_DISCARD)
			discard(b, w);
		else
			read_or_write(b, w);
		/* Last: the device may be destroyed, which joins this thread. */
		zd_percpu_ref_put(&b->dev.pgmap.priv->ref);
		zd_mutex_lock(&b->lock);
	}
	zd_mutex_unlock(&b->lock);
	return NULL;
}

/* In the child of a fork: the threads are the parent's, and so is what they were doing.  Their
 * holds came with the memory, and nobody else would put them: each call has one from before
 * w->work is set until after it is WORK_NONE again. */
static void forget(struct blocking *b)
{
	unsigned int holds = b->trim_queued;

	zd_thread_forget(&b->watch);
	for (unsigned int i = 0; i < b->attr.threads; i++) {
		struct blocking_worker *w = &b->worker[i];

		zd_thread_forget(&w->thread);
		holds += w->work != WORK_NONE;
		w->work = WORK_NONE;
		w->io = NULL;
	}
	for (unsigned int i = 0; i < NR_LANES; i++) {
		b->lane[i].q = (struct zd_ioq){ 0 };
		b->lane[i].taken = 0;
		b->lane[i].queued = 0;
	}
	b->nr_slow = b->asleep = b->late_writes = 0;
	b->trim_nr = 0;
	b->trim_queued = b->watching = false;
	while (holds--)
		zd_percpu_ref_put(&b->dev.pgmap.priv->ref);
}

int zd_blocking_start(struct blocking *b)
{
	char name[16];
	int rc;

	if (!zd_is_this_process(&b->process))
		forget(b);
	b->process = zd_this_process();
	b->stop = false;
	snprintf(name, sizeof(name), "%s", b->attr.name);
	rc = zd_thread_start(&b->watch, name, zd_blocking_watch, b);
	for (unsigned int i = 0; i < b->attr.threads && !rc; i++) {
		b->worker[i].b = b;
		rc = zd_thread_start(&b->worker[i].thread, name, work, &b->worker[i]);
	}
	if (rc)
		zd_blocking_stop(b);
	return rc;
}

void zd_blocking_stop(struct blocking *b)
{
	if (!zd_is_this_process(&b->process)) {
		forget(b);
		return;
	}
	zd_mutex_lock(&b->lock);
	b->stop = true;
	__atomic_store_n(&b->work, b->work + 1, __ATOMIC_RELAXED);
	zd_futex_wake(&b->work, INT_MAX);
	zd_blocking_wake_watch(b);
	zd_mutex_unlock(&b->lock);
	for (unsigned int i = 0; i < b->attr.threads; i++)
		zd_thread_join(&b->worker[i].thread);
	zd_thread_join(&b->watch);
}
