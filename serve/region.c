/* SPDX-License-Identifier: MIT */
/*
 * serve/region.c - requests of bytes on a region of sectors that goes away and
 * comes back.
 *
 * A removed region's handle stays open: requests that are on their way meet the handle, and
 * fail.  So removal takes no lock; the library waits for requests in flight.  The lock is for
 * region_add() alone, which puts another handle in the old one's place.  Writes that must not
 * meet are kept apart by writes.h, one range from another: a write of other sectors waits for
 * none of them, nor does a read.
 *
 * Requests hold the lock for reading, as long as the media takes.  A thread that wants the
 * lock for writing goes before requests that come later, or a busy server would never let
 * that thread in; it comes while the region is away, when requests fail at once.
 *
 * Order of locks: a write's range (writes_begin), region.lock.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/clock.h"
#include "serve/region.h"
#include "serve/writes.h"

static struct {
	const struct region_config *config;
	struct zd_pmem_info info;
	pthread_rwlock_t lock;
	struct zd_pmem *pmem;		/* written with the lock held for writing */
	enum region_state state;	/* atomic; written by the control thread alone */
} region;

static int open_pmem(struct zd_pmem **pmem, char *err, size_t errlen)
{
	const struct region_config *c = region.config;
	struct zd_pmem_attr attr = c->attr;
	int ret;

	if (!(attr.flags & ZD_PMEM_READONLY))
		attr.flags |= ZD_PMEM_CREATE;
	ret = zd_pmem_open(c->path, &attr, pmem, err, errlen);
	if (ret && errlen && !*err)
		snprintf(err, errlen, "%s: %s", c->path, strerrordesc_np(-ret));
	return ret;
}

int region_open(const struct region_config *config, char *err, size_t errlen)
{
	pthread_rwlockattr_t attr;
	int ret;

	region.config = config;
	ret = open_pmem(&region.pmem, err, errlen);
	if (ret)
		return ret;
	zd_pmem_get_info(region.pmem, &region.info);
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&region.lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	return 0;
}

void region_close(void)
{
	if (!region.pmem)
		return;
	zd_pmem_close(region.pmem);
	region.pmem = NULL;
	pthread_rwlock_destroy(&region.lock);
}

bool region_is_readonly(void)
{
	return region.config->attr.flags & ZD_PMEM_READONLY;
}

const struct zd_pmem_info *region_info(void)
{
	return &region.info;
}

uint64_t region_bytes(void)
{
	return region.info.nr_sectors * ZD_SECTOR_SIZE;
}

enum region_state region_state(void)
{
	return __atomic_load_n(&region.state, __ATOMIC_RELAXED);
}

bool region_is_live(void)
{
	return region_state() == REGION_LIVE;
}

/* --- requests --- */

#define LOCK_MS		200	/* then see whether the region is still there */

/*
 * Takes the lock for reading.  0; -ESHUTDOWN: the region is away, or going.  That ends a wait
 * for the lock, too: a request with the lock would meet a queue that is closed.  May block.
 */
static int lock_region(void)
{
	struct timespec until;
	int ret;

	for (;;) {
		if (!region_is_live())
			return -ESHUTDOWN;
		ret = pthread_rwlock_tryrdlock(&region.lock);
		if (!ret)
			return 0;
		until = clock_in_ms(LOCK_MS);
		ret = pthread_rwlock_timedrdlock(&region.lock, &until);
		if (!ret)
			return 0;
	}
}

/* A request of whole sectors. */
static int sectors_rw(enum zd_pmem_op op, unsigned int flags, uint64_t offset, uint64_t count,
		      void *buf)
{
	int ret = lock_region();

	if (ret)
		return ret;
	ret = zd_pmem_rw(region.pmem, op, flags, offset / ZD_SECTOR_SIZE, count / ZD_SECTOR_SIZE,
			 buf);
	pthread_rwlock_unlock(&region.lock);
	return ret == -ENODEV ? -ESHUTDOWN : ret;
}

/* Makes durable what was written in the range; a write to a BTT is durable already. */
static int sync_range(uint64_t offset, uint64_t count)
{
	int ret;

	if (region.info.flags & ZD_PMEM_BTT)
		return 0;
	ret = lock_region();
	if (ret)
		return ret;
	ret = zd_pmem_persist_range(region.pmem, offset, count);
	pthread_rwlock_unlock(&region.lock);
	return ret == -ENODEV ? -ESHUTDOWN : ret;
}

/*
 * A write of less than the sectors of @w, for which @copy has room: they are read, changed and
 * written.  The sync of FUA comes after writes_end(), so that other writes of these sectors
 * don't wait for it.
 */
static int merge(unsigned int flags, struct write *w, uint64_t offset, uint32_t count,
		 const void *buf, char *copy)
{
	uint64_t len = w->end - w->first;
	int ret;

	if (!writes_begin(w, region_is_live))
		return -ESHUTDOWN;
	ret = sectors_rw(ZD_PMEM_READ, 0, w->first, len, copy);
	if (!ret) {
		memcpy(copy + (offset - w->first), buf, count);
		ret = sectors_rw(ZD_PMEM_WRITE, flags & ~ZD_PMEM_FUA, w->first, len, copy);
	}
	writes_end(w);
	return !ret && flags & ZD_PMEM_FUA ? sync_range(w->first, len) : ret;
}

static int unaligned_rw(enum zd_pmem_op op, unsigned int flags, uint64_t offset, uint32_t count,
			void *buf)
{
	struct write w = {
		.first = offset / ZD_SECTOR_SIZE * ZD_SECTOR_SIZE,
		.end = (offset + count + ZD_SECTOR_SIZE - 1) / ZD_SECTOR_SIZE * ZD_SECTOR_SIZE,
		.alone = true,
	};
	char *copy = malloc(w.end - w.first);
	int ret;

	if (!copy)
		return -ENOMEM;
	if (op == ZD_PMEM_WRITE) {
		ret = merge(flags, &w, offset, count, buf, copy);
	} else {
		ret = sectors_rw(ZD_PMEM_READ, 0, w.first, w.end - w.first, copy);
		if (!ret)
			memcpy(buf, copy + (offset - w.first), count);
	}
	free(copy);
	return ret;
}

static int unaligned(enum zd_pmem_op op, unsigned int flags, uint64_t offset, uint32_t count,
		     void *buf)
{
	uint64_t first, end;

	switch (op) {
	case ZD_PMEM_READ:
	case ZD_PMEM_WRITE:
		return unaligned_rw(op, flags, offset, count, buf);
	case ZD_PMEM_DISCARD:
		first = (offset + ZD_SECTOR_SIZE - 1) / ZD_SECTOR_SIZE * ZD_SECTOR_SIZE;
		end = (offset + count) / ZD_SECTOR_SIZE * ZD_SECTOR_SIZE;
		return first < end ? region_rw(op, flags, first, end - first, NULL) : 0;
	default:
		return -EOPNOTSUPP;
	}
}

int region_rw(enum zd_pmem_op op, unsigned int flags, uint64_t offset, uint32_t count, void *buf)
{
	struct write w = { .first = offset, .end = offset + count };
	int ret;

	if (op == ZD_PMEM_READ || op == ZD_PMEM_FLUSH) {
		if (offset % ZD_SECTOR_SIZE || count % ZD_SECTOR_SIZE)
			return unaligned(op, flags, offset, count, buf);
		return sectors_rw(op, flags, offset, count, buf);
	}
	if (!count)
		return region_is_live() ? 0 : -ESHUTDOWN;
	if (offset % ZD_SECTOR_SIZE || count % ZD_SECTOR_SIZE)
		return unaligned(op, flags, offset, count, buf);
	if (!writes_begin(&w, region_is_live))
		return -ESHUTDOWN;
	ret = sectors_rw(op, flags, offset, count, buf);
	writes_end(&w);
	return ret;
}

int64_t region_extent(uint64_t offset, uint64_t count, unsigned int *flags)
{
	int64_t ret = lock_region();

	if (ret)
		return ret;
	ret = zd_pmem_extent(region.pmem, offset / ZD_SECTOR_SIZE,
			     (count + ZD_SECTOR_SIZE - 1) / ZD_SECTOR_SIZE, flags);
	pthread_rwlock_unlock(&region.lock);
	if (ret < 0)
		return ret == -ENODEV ? -ESHUTDOWN : ret;
	return ret * (int64_t)ZD_SECTOR_SIZE;
}

/* --- away and back --- */

static void set_state(enum region_state state)
{
	__atomic_store_n(&region.state, state, __ATOMIC_RELAXED);
}

int region_remove(unsigned int ms, struct zd_pmem_holders *holders)
{
	int ret;

	if (region.state == REGION_REMOVED)
		return -ENODEV;
	set_state(REGION_REMOVING);
	ret = zd_pmem_remove_timeout(region.pmem, ms, holders);
	if (!ret || ret == -EIO)
		set_state(REGION_REMOVED);
	return ret;
}

int region_add(char *err, size_t errlen)
{
	const struct zd_pmem_info *old = &region.info;
	struct zd_pmem *pmem, *gone;
	struct zd_pmem_info info;
	int ret;

	/* The same region, or none: clients know what was in it. */
	ret = zd_pmem_reopen(region.pmem, &pmem, err, errlen);
	if (ret)
		return ret;
	/* Clients know the size.  A BTT can't come or go without a change of the size. */
	zd_pmem_get_info(pmem, &info);
	if (info.nr_sectors != old->nr_sectors) {
		zd_pmem_close(pmem);
		snprintf(err, errlen,
			 "%s has %llu bytes now, and its clients know it with %llu: "
			 "start another server",
			 region.config->path, (unsigned long long)info.nr_sectors * ZD_SECTOR_SIZE,
			 (unsigned long long)old->nr_sectors * ZD_SECTOR_SIZE);
		return -EINVAL;
	}
	pthread_rwlock_wrlock(&region.lock);
	gone = region.pmem;
	region.pmem = pmem;
	pthread_rwlock_unlock(&region.lock);
	zd_pmem_close(gone);
	set_state(REGION_LIVE);
	return 0;
}
