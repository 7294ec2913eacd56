/* SPDX-License-Identifier: MIT */
/*
 * Making stores durable.
 *
 * On DAX the storing thread flushes its lines and drains them; nothing is shared, and
 * nothing can fail but the page going away under the flush (CLWB faults as a load
 * does, hence the guard).  Only a hole that was punched is the file system's to write
 * down: until it has, old content may come back, and a sync asks for it.
 *
 * Elsewhere it is msync() of the whole mapping: libpmem2's persist functions would do
 * the same, but can't return an error.  The kernel tells of a failed write-back once,
 * and forgets: so only one msync runs at a time, who comes meanwhile shares the next
 * one, and an error stays.  One at a time isn't slower: a journal commits one
 * transaction at a time anyway, and the next msync does the work of all who wait.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

#include "core/fault_guard.h"
#include "drivers/pmem.h"
#include "zonedev/log.h"

struct flush_call {
	struct zd_media *m;
	const char *addr;
	uint64_t len;
};

static void call_flush(void *arg)
{
	struct flush_call *c = arg;

	c->m->flush_fn(c->addr, c->len);
}

int zd_media_flush(struct zd_media *m, uint64_t off, uint64_t len)
{
	struct flush_call c = { m, m->base + off, len };

	if (!m->flush_fn)
		return 0;
	if (zd_fault_guard_call(call_flush, &c, m->base, m->bytes, NULL))
		return -EIO;
	zd_media_tell(m, ZD_MEDIA_FLUSH, off, len);
	return 0;
}

int zd_media_sync_error(struct zd_media *m)
{
	return __atomic_load_n(&m->sync.error, __ATOMIC_RELAXED);
}

/* Called and returns with sync->lock held, drops it. */
static void sync_once(struct zd_media *m)
{
	struct zd_media_sync *s = &m->sync;
	uint64_t nr = ++s->started;
	int rc;

	s->busy = true;
	zd_mutex_unlock(&s->lock);
	zd_media_tell(m, ZD_MEDIA_SYNC_BEGIN, 0, m->bytes);
	rc = msync(m->base, m->bytes, MS_SYNC) ? -errno : 0;
	zd_media_tell(m, ZD_MEDIA_SYNC, 0, m->bytes);
	zd_mutex_lock(&s->lock);
	s->busy = false;
	if (rc) {
		zd_log(ZD_LOG_ERR, "pmem: what was written can't be made durable (%s): flushes fail until the region is opened anew",
		       strerrordesc_np(-rc));
		__atomic_store_n(&s->error, -EIO, __ATOMIC_RELAXED);
	} else {
		/* release: what the holder of a ticket does next comes after */
		__atomic_store_n(&s->completed, nr, __ATOMIC_RELEASE);
	}
	__atomic_add_fetch(&s->turn, 1, __ATOMIC_RELEASE);
	zd_futex_wake(&s->turn, INT_MAX);
}

static void wait_turn(struct zd_media_sync *s)
{
	uint32_t turn = __atomic_load_n(&s->turn, __ATOMIC_RELAXED);

	zd_mutex_unlock(&s->lock);
	zd_futex_wait(&s->turn, turn, -1);
	zd_mutex_lock(&s->lock);
}

static int sync_shared(struct zd_media *m)
{
	struct zd_media_sync *s = &m->sync;
	uint64_t ticket;
	int rc;

	zd_mutex_lock(&s->lock);
	/* the one that runs now may have missed our stores */
	ticket = s->started + 1;
	while (!s->error && s->completed < ticket) {
		if (s->busy)
			wait_turn(s);
		else
			sync_once(m);
	}
	rc = s->error;
	zd_mutex_unlock(&s->lock);
	return rc;
}

/* After the hole: a sync with this number, or a later one, has it. */
void zd_media_punched(struct zd_media *m)
{
	zd_mutex_lock(&m->sync.lock);
	/* the one that runs now may have missed it */
	__atomic_store_n(&m->hole_ticket, m->sync.started + 1, __ATOMIC_RELEASE);
	zd_mutex_unlock(&m->sync.lock);
}

static bool holes_are_durable(struct zd_media *m)
{
	/* acquire: pairs with the release in sync_once() */
	return __atomic_load_n(&m->sync.completed, __ATOMIC_ACQUIRE) >=
	       __atomic_load_n(&m->hole_ticket, __ATOMIC_ACQUIRE);
}

int zd_media_order(struct zd_media *m)
{
	if (m->readonly || m->persist == ZD_PMEM_PERSIST_NONE)
		return 0;
	if (!m->drain_fn)
		return sync_shared(m);
	m->drain_fn();
	zd_media_tell(m, ZD_MEDIA_DRAIN, 0, 0);
	return 0;
}

int zd_media_sync(struct zd_media *m)
{
	int rc = zd_media_order(m);

	return rc || !m->drain_fn || holes_are_durable(m) ? rc : sync_shared(m);
}
