/* SPDX-License-Identifier: MIT */
/*
 * A driver in a program shares the program's malloc, and so its locks.
 *
 * 1. The server's thread must not wait for a lock of malloc's.  fork() holds all of them until
 * the server has read the fork's event; free() holds one while it gives memory back, which
 * waits for the server too where the memory is managed; and a thread that holds one may touch
 * managed memory for the first time.  So a driver whose callbacks may malloc is refused.
 *
 * 2. A driver's own threads (ZD_DEVICE_ASYNC) may wait for such a lock, if its holder doesn't
 * wait for the device.  With a lock held malloc touches its own memory alone, the arenas
 * (malloc_arenas.h).  So from the first such device on, the arenas stay in RAM: they go to no
 * device, since on any the holder's fault could wait behind batches of the slow one.  What
 * of them is on another device comes home before.  What other locks a driver takes is the
 * driver's affair (zonedev/device.h).
 *
 * 3. Where the arenas can't be told from other memory, such a device is refused, unless the
 * program has said that it gives none of malloc's memory (ZD_MM_OWN_MAPPINGS).
 *
 * The order of things.  A thread of the program makes the rule strict, and then has the arenas
 * brought home; a migration that was asked for by an older rule ends before its next batch
 * (zd_malloc_rule_changed()), and its caller asks again.  So no arena is on its way when the
 * homing ends.
 */
#include "hmm/malloc_rule.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "hmm/malloc_arenas.h"
#include "space/maps.h"
#include "zonedev/log.h"

struct all_arenas {
	struct zd_ranges ranges;
	int rc;
};

static bool add_arenas(const struct zd_vma *vma, void *ctx)
{
	struct all_arenas *all = ctx;

	if (vma->anon)
		all->rc = zd_malloc_arenas(vma->start, vma->end, &all->ranges);
	return !all->rc;
}

static int bring_arenas_home(struct zd_hmm *hmm)
{
	struct all_arenas all = { 0 };
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = zd_maps_walk(fd, add_arenas, &all);
	close(fd);
	rc = rc ? rc : all.rc;
	for (size_t i = 0; i < all.ranges.nr && !rc; i++)
		rc = zd_hmm_bring_home(hmm->mm, all.ranges.v[i].start, all.ranges.v[i].end);
	zd_ranges_destroy(&all.ranges);
	return rc;
}

bool zd_malloc_rule_changed(const struct zd_hmm *hmm, bool strict)
{
	return !strict && __atomic_load_n(&hmm->arenas_stay, __ATOMIC_RELAXED);
}

/* Relaxed: the commands to the server order what depends on it. */
static int make_strict(struct zd_hmm *hmm)
{
	int rc;

	__atomic_store_n(&hmm->arenas_stay, true, __ATOMIC_RELAXED);
	rc = bring_arenas_home(hmm);
	if (rc)
		__atomic_store_n(&hmm->arenas_stay, false, __ATOMIC_RELAXED);
	return rc;
}

static int refuse(const struct zd_device *dev, const char *why)
{
	zd_warn_once("%s: its threads may call malloc (no ZD_DEVICE_NO_MALLOC), and %s: give it "
		     "memory of your own mappings alone, and say ZD_MM_OWN_MAPPINGS",
		     dev->name, why);
	return -EOPNOTSUPP;
}

int zd_malloc_rule(struct zd_hmm *hmm, uint64_t start, uint64_t end, const struct zd_device *dev,
		   struct zd_ranges *stay, bool *strict)
{
	bool mallocs = !(dev->ops->flags & ZD_DEVICE_NO_MALLOC);
	const char *why;
	int rc = zd_hmm_callable(hmm);

	if (rc)
		return rc;
	*strict = __atomic_load_n(&hmm->arenas_stay, __ATOMIC_RELAXED);
	if (mallocs && !(dev->ops->flags & ZD_DEVICE_ASYNC)) {
		zd_warn_once("%s: its callbacks may call malloc (neither ZD_DEVICE_NO_MALLOC nor "
			     "ZD_DEVICE_ASYNC), which can wait for ever in the program itself: see "
			     "zonedev/device.h, or use zonedev run",
			     dev->name);
		return -EOPNOTSUPP;
	}
	if (hmm->own_mappings || (!mallocs && !*strict))
		return 0;
	why = zd_malloc_is_unknown();
	if (why)
		return refuse(dev, why);
	if (!*strict)
		rc = make_strict(hmm);
	*strict = true;
	return rc ? rc : zd_malloc_arenas(start, end, stay);
}
