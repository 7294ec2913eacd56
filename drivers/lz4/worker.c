/* SPDX-License-Identifier: MIT */
/*
 * drivers/lz4/worker.c - the thread that compresses.
 *
 * A page takes some microseconds to compress, and an eviction has hundreds: no fault may wait
 * for that, so large batches are run here, in the order in which they come.  While there are none the
 * thread tidies up, a step at a time, and then sleeps.
 *
 * The bell is rung after what there is to do is to be seen (a batch in the queue, a store that is
 * untidy, stop), and the thread looks at the bell before it looks for that, and sleeps only while
 * the bell is as it was.  `asleep` saves the system call where the thread is awake: the ringer
 * stores the bell and loads `asleep`, the thread stores `asleep` and loads the bell, both
 * sequentially consistent, so that one of the two sees the other.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/alloc.h"
#include "drivers/lz4/lz4.h"
#include "zonedev/log.h"

/* Lazily committed; the program's static TLS is in it as well. */
#define STACK_BYTES	(2 * 1024 * 1024)
#define TIDY_EVERY	16	/* pages of a batch */

void zd_lz4_run_batch(struct zd_lz4_store *store, struct zd_lz4_codec *codec,
		      struct zd_device_io *io)
{
	for (unsigned int i = 0; i < io->nr; i++) {
		struct zd_io_page *page = &io->pages[i];
		uint64_t index = zd_device_page_index(store->dev, page->pfn);

		if (io->dir == ZD_FROM_DEVICE) {
			page->error = zd_lz4_store_get(store, index, page->buf);
			continue;
		}
		page->error = zd_lz4_store_put(store, codec, index, page->buf);
		if (i % TIDY_EVERY == TIDY_EVERY - 1)
			zd_lz4_store_tidy(store);
	}
}

static struct zd_device_io *next_batch(struct zd_lz4_worker *worker)
{
	struct zd_device_io *io;

	zd_mutex_lock(&worker->lock);
	io = zd_ioq_pop(&worker->queue);
	zd_mutex_unlock(&worker->lock);
	return io;
}

static void sleep_until_rung(struct zd_lz4_worker *worker, uint32_t seen)
{
	__atomic_store_n(&worker->asleep, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&worker->bell, __ATOMIC_SEQ_CST) == seen)
		zd_futex_wait(&worker->bell, seen, -1);
	__atomic_store_n(&worker->asleep, 0, __ATOMIC_RELAXED);
}

static void ring(struct zd_lz4_worker *worker)
{
	__atomic_fetch_add(&worker->bell, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&worker->asleep, __ATOMIC_SEQ_CST))
		zd_futex_wake(&worker->bell, 1);
}

static void *thread_main(void *arg)
{
	struct zd_lz4_worker *worker = arg;
	struct zd_device_io *io;
	uint32_t seen;

	pthread_setname_np(pthread_self(), "zonedev-lz4");
	for (;;) {
		seen = __atomic_load_n(&worker->bell, __ATOMIC_SEQ_CST);
		io = next_batch(worker);
		if (io) {
			zd_lz4_run_batch(worker->store, &worker->codec, io);
			zd_io_complete_any(worker->store->dev, io);
			continue;
		}
		if (__atomic_load_n(&worker->stop, __ATOMIC_RELAXED))
			return NULL;
		__atomic_store_n(&worker->untidy, false, __ATOMIC_SEQ_CST);
		if (!zd_lz4_store_tidy(worker->store))
			sleep_until_rung(worker, seen);
	}
}

int zd_lz4_worker_start(struct zd_lz4_worker *worker, struct zd_lz4_store *store, int level)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	worker->store = store;
	rc = zd_lz4_codec_init(&worker->codec, level);
	if (rc)
		return rc;
	worker->stack = zd_reserve(STACK_BYTES);
	if (!worker->stack) {
		rc = -ENOMEM;
		goto out_codec;
	}
	pthread_attr_init(&attr);
	rc = -pthread_attr_setstack(&attr, worker->stack, STACK_BYTES);
	/* Signals are the program's: its handlers may touch managed memory. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!rc)
		rc = -pthread_create(&worker->thread, &attr, thread_main, worker);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc)
		goto out_stack;
	worker->process = zd_this_process();
	worker->running = true;
	return 0;

out_stack:
	zd_unreserve(worker->stack, STACK_BYTES);
out_codec:
	zd_lz4_codec_exit(&worker->codec);
	return rc;
}

bool zd_lz4_worker_is_here(const struct zd_lz4_worker *worker)
{
	return worker->running && worker->process.generation == zd_fork_generation;
}

void zd_lz4_worker_stop(struct zd_lz4_worker *worker)
{
	if (!worker->running)
		return;
	if (zd_is_this_process(&worker->process)) {
		__atomic_store_n(&worker->stop, true, __ATOMIC_RELAXED);
		ring(worker);
		pthread_join(worker->thread, NULL);
	}
	worker->running = false;
	zd_unreserve(worker->stack, STACK_BYTES);
	zd_lz4_codec_exit(&worker->codec);
}

/* The parent's thread may have been anywhere, and what it was to do is the parent's. */
void zd_lz4_worker_restart(struct zd_lz4_worker *worker)
{
	struct zd_lz4_store *store = worker->store;
	int level = worker->codec.level, rc;

	if (!worker->running)
		return;
	zd_lz4_worker_stop(worker);
	*worker = (struct zd_lz4_worker){ 0 };
	rc = zd_lz4_worker_start(worker, store, level);
	if (rc)
		zd_warn_once("%s: no thread: %s: it compresses in the server's", store->dev->name,
			     strerrordesc_np(-rc));
}

void zd_lz4_worker_give(struct zd_lz4_worker *worker, struct zd_device_io *io)
{
	zd_mutex_lock(&worker->lock);
	zd_ioq_push(&worker->queue, io);
	zd_mutex_unlock(&worker->lock);
	ring(worker);
}

void zd_lz4_worker_tidy(struct zd_lz4_worker *worker)
{
	if (zd_lz4_worker_is_here(worker) &&
	    !__atomic_exchange_n(&worker->untidy, true, __ATOMIC_SEQ_CST))
		ring(worker);
}
