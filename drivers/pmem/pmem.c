/* SPDX-License-Identifier: MIT */
/*
 * The region: put together, and taken apart.
 *
 * What is set up in order is undone in reverse order by the actions of a struct
 * zd_devm, one function a step.  The order is the thread's:
 *
 *	freeze		nobody enters the queue
 *	kill		nobody gets a page, or a mapping
 *	revoke		mappings go; the base reference is put
 *	wait		for requests, which hold the gate and the pagemap, and for pages
 *	exit		the pagemap goes
 *	release queue	the bookkeeping of what was in it: the BTT
 *	unmap, close	the media
 *
 * The gate outlives them: later callers find it closed, until the handle is freed.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/sized.h"
#include "base/time.h"
#include "pages/pagemap.h"
#include "drivers/btt/info.h"
#include "drivers/explain.h"
#include "drivers/media/record.h"
#include "drivers/pmem/pmem.h"
#include "drivers/teardown.h"
#include "zonedev/log.h"

/* --- the steps --- */

static void step(struct zd_pmem *pmem, const char *what)
{
	zd_teardown_step(&pmem->dax.pgmap, what);
}

static void step_close(void *data)
{
	struct zd_pmem *pmem = data;

	step(pmem, "close");
	zd_pmem_close_file(&pmem->media);
}

static void step_unmap(void *data)
{
	struct zd_pmem *pmem = data;

	step(pmem, "unmap");
	__atomic_store_n(&pmem->gone, true, __ATOMIC_RELEASE);
	zd_media_unmap(&pmem->media);
}

static void step_release_queue(void *data)
{
	struct zd_pmem *pmem = data;

	struct zd_media *m = &pmem->media;
	uint64_t bad;

	step(pmem, "release queue");
	/* what can't be written back is known then, and remembered (pmem/reopen.c) */
	if (pmem->btt)
		zd_btt_close(pmem->btt);
	else
		zd_media_sync(m);
	pmem->btt = NULL;
	pmem->left = zd_media_sync_error(m);
	/* and what was cut off while no request looked */
	if (zd_media_check_end(m, 0, m->bytes, &bad))
		pmem->left = -EIO;
	zd_media_record(m, ZD_RECORD_ALL);
}

static void step_exit(void *data)
{
	zd_dax_exit(&((struct zd_pmem *)data)->dax);
}

/* For requests; @ms < 0: as long as it takes.  How much of @ms is left, or -ETIMEDOUT. */
static int wait_for_requests(struct zd_pmem *pmem, int ms)
{
	int64_t start = zd_now_ms(), gone;

	if (ms < 0) {
		if (!zd_wait_for_completion_timeout(&pmem->queue.empty, 10000))
			zd_log(ZD_LOG_WARN, "pmem: removal still waits for %llu requests",
			       (unsigned long long)zd_pmem_queue_users(&pmem->queue));
		zd_wait_for_completion(&pmem->queue.empty);
		return ms;
	}
	if (!zd_wait_for_completion_timeout(&pmem->queue.empty, ms))
		return -ETIMEDOUT;
	gone = zd_now_ms() - start;
	return gone < ms ? ms - (int)gone : 0;
}

/* Then for all else. */
static int wait_for_holders(struct zd_pmem *pmem, int ms, struct zd_pmem_holders *out)
{
	int left = wait_for_requests(pmem, ms), rc;

	/* who else there is is of interest in any case */
	rc = zd_dax_wait(&pmem->dax, left == -ETIMEDOUT ? 0 : left, out ? &out->pages : NULL);
	if (left == -ETIMEDOUT)
		rc = -ETIMEDOUT;
	if (rc && out) {
		uint64_t users = zd_pmem_queue_users(&pmem->queue), *refs = &out->pages.nr_refs;

		out->nr_requests = users;
		*refs -= *refs < users ? *refs : users;
	}
	return rc;
}

static void step_wait(void *data)
{
	wait_for_holders(data, -1, NULL);
}

static void step_revoke(void *data)
{
	zd_dax_revoke_and_put(&((struct zd_pmem *)data)->dax);
}

static void step_kill(void *data)
{
	int rc = zd_dax_kill(&((struct zd_pmem *)data)->dax);

	/* as in dax/steps.c */
	ZD_BUG_ON(rc, "a region can't be taken down here: %s", strerrordesc_np(-rc));
}

static void step_freeze(void *data)
{
	struct zd_pmem *pmem = data;

	step(pmem, "freeze");
	zd_pmem_queue_die(&pmem->queue);
}

/* --- open --- */

static int add_step(struct zd_pmem *pmem, zd_devm_action_t *action)
{
	return zd_devm_add_action_or_reset(&pmem->devm, action, pmem);
}

static int explain(int rc, char *err, size_t errlen)
{
	return zd_explain(err, errlen, rc, "can't map it: %s", strerrordesc_np(-rc));
}

static int open_media(struct zd_pmem *pmem, const char *path, const struct zd_pmem_attr *attr,
		      char *err, size_t errlen)
{
	struct zd_media *m = &pmem->media;
	int rc = zd_pmem_open_file(path, attr, m, err, errlen);

	if (rc)
		return rc;
	rc = add_step(pmem, step_close);
	if (!rc)
		rc = zd_media_map(m);
	if (!rc)
		rc = add_step(pmem, step_unmap);
	return rc ? explain(rc, err, errlen) : 0;
}

/* @again: it must be there. */
static int open_btt(struct zd_pmem *pmem, const struct zd_pmem_attr *attr, bool again, char *err,
		    size_t errlen)
{
	bool force = attr->flags & ZD_PMEM_FORCE;
	bool create = !again && !(attr->flags & ZD_PMEM_READONLY);
	int has = zd_btt_probe(&pmem->media), data = 0, rc;

	if (has < 0)
		return explain(has, err, errlen);
	if (!(attr->flags & ZD_PMEM_BTT)) {
		if (!has || force)
			return 0;
		return zd_explain(err, errlen, -EMEDIUMTYPE,
				    "its blocks are translated by a BTT: open it with btt=on");
	}
	if (!has && create && !force)
		data = zd_pmem_has_data(&pmem->media);
	if (data < 0)
		return explain(data, err, errlen);
	if (data)
		return zd_explain(err, errlen, -EEXIST,
				    "it holds data, which btt=on would overwrite: name a new or empty file");
	rc = zd_btt_open(&pmem->media, create, attr->btt_block, &pmem->btt, err, errlen);
	if (!rc)
		memcpy(pmem->btt_uuid, pmem->btt->info.uuid, sizeof(pmem->btt_uuid));
	return rc;
}

static void set_info(struct zd_pmem *pmem)
{
	struct zd_pmem_info *info = &pmem->info;
	struct zd_btt *btt = pmem->btt;

	info->media_bytes = pmem->media.bytes;
	info->nr_sectors = (btt ? btt->nr_blocks * btt->block : info->media_bytes) >>
			   ZD_SECTOR_SHIFT;
	info->atomic_bytes = btt ? btt->block : 8;
	info->flags = (btt ? ZD_PMEM_BTT : 0) | (pmem->media.readonly ? ZD_PMEM_READONLY : 0);
	info->persist = pmem->media.persist;
	info->pfn = pmem->dax.pgmap.pfn;
	info->has_holes = pmem->media.has_holes;
}

/* As registered: the last one is taken first. */
static zd_devm_action_t *const page_steps[] = {
	step_exit, step_wait, step_revoke, step_kill, step_freeze,
};
#define NR_PAGE_STEPS	((int)(sizeof(page_steps) / sizeof(page_steps[0])))

static bool page_is_live(void *owner, uint64_t page)
{
	const struct zd_dax *dax = owner;

	return dax->live[page / 64] >> (page % 64) & 1;
}

/* dax->page_lock is held. */
static bool page_may_live(struct zd_dax *dax, uint64_t page)
{
	return zd_media_may_hold(&((struct zd_pmem *)dax->cfg.owner)->media, page);
}

static int open_pages(struct zd_pmem *pmem)
{
	struct zd_media *m = &pmem->media;
	struct zd_dax_config cfg = {
		.type = ZD_MEMORY_FS_DAX, .fd = m->program_fd, .nr_pages = m->bytes / ZD_PAGE_SIZE,
		.align = m->align, .map_flags = m->map_flags, .rdonly = m->readonly,
		.base = m->base, .owner = pmem, .may_hold = page_may_live,
	};
	int rc = add_step(pmem, step_release_queue);

	if (!rc)
		rc = zd_dax_setup(&pmem->dax, &cfg);
	if (rc)
		return rc;
	m->pages = (struct zd_media_pages){
		.owner = &pmem->dax, .lock = &pmem->dax.page_lock, .is_live = page_is_live,
		.sigbus_fd = pmem->dax.empty_fd,
	};
	pmem->queue.usage = &pmem->dax.pgmap.priv->ref;
	return zd_teardown_add(&pmem->devm, page_steps, NR_PAGE_STEPS, pmem);
}

static int set_up(struct zd_pmem *pmem, const char *path, const struct zd_pmem_attr *attr,
		  const struct zd_pmem *removed, char *err, size_t errlen)
{
	int rc = open_media(pmem, path, attr, err, errlen);

	if (rc)
		return rc;
	rc = open_pages(pmem);
	if (rc)
		return explain(rc, err, errlen);
	rc = open_btt(pmem, attr, removed, err, errlen);
	if (rc)
		return rc;
	set_info(pmem);
	if (removed && !zd_pmem_is_same(pmem, removed))
		return zd_explain(err, errlen, -ESTALE,
				    "%s is another file than was removed: put that back, or start anew",
				    path);
	rc = removed ? zd_pmem_inherit(pmem, removed) : 0;
	if (rc)
		return explain(rc, err, errlen);
	/* one that has grown meanwhile may be sent away for that, and be cut again */
	if (!removed || removed->media.bytes == pmem->media.bytes)
		zd_media_record_size(&pmem->media);
	return 0;
}

static void free_region(struct zd_pmem *pmem)
{
	zd_badblocks_exit(&pmem->media.bad);
	zd_badblocks_exit(&pmem->media.mended);
	zd_pmem_queue_destroy(&pmem->queue);
	zd_free(pmem->path);
	zd_free(pmem);
}

int zd_pmem_open_region(const char *path, const struct zd_pmem_attr *attr,
			const struct zd_pmem *removed, struct zd_pmem **out, char *err,
			size_t errlen)
{
	size_t len = strlen(path) + 1;
	struct zd_pmem *pmem = zd_alloc(sizeof(*pmem));
	int rc = -ENOMEM;

	if (!pmem)
		return zd_explain(err, errlen, rc, "no memory");
	pmem->path = zd_alloc(len);
	if (pmem->path)
		rc = zd_pmem_queue_init(&pmem->queue);
	if (rc) {
		zd_free(pmem->path);
		zd_free(pmem);
		return explain(rc, err, errlen);
	}
	memcpy(pmem->path, path, len);
	rc = set_up(pmem, path, attr, removed, err, errlen);
	if (rc) {
		if (pmem->media.created)
			unlink(path);
		zd_devm_release_all(&pmem->devm);
		free_region(pmem);
		return rc;
	}
	*out = pmem;
	return 0;
}

int zd_pmem_open(const char *path, const struct zd_pmem_attr *attr, struct zd_pmem **out,
		 char *err, size_t errlen)
{
	static const struct zd_pmem_attr none = { .size = sizeof(none) };

	if (!path || !out)
		return zd_explain(err, errlen, -EINVAL, "no path");
	return zd_pmem_open_region(path, attr ? attr : &none, NULL, out, err, errlen);
}

int zd_pmem_open_fd(int fd, const struct zd_pmem_attr *attr, struct zd_pmem **pmem, char *err,
		    size_t errlen)
{
	char path[32];

	if (fd < 0)
		return zd_explain(err, errlen, -EBADF, "not a descriptor");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return zd_pmem_open(path, attr, pmem, err, errlen);
}

int zd_pmem_get_info(const struct zd_pmem *pmem, struct zd_pmem_info *info, size_t size)
{
	/* no program has less than what is there now: a member that is added comes behind */
	if (!pmem || !info || size < sizeof(*info))
		return -EINVAL;
	zd_fill(info, size, &pmem->info, sizeof(*info));
	return 0;
}

/* --- removal --- */

static int remove_region(struct zd_pmem *pmem, int ms, struct zd_pmem_holders *out)
{
	int rc = 0;

	if (zd_dax_in_page_free())
		return -EDEADLK;
	/* acquire, release: what one attempt did the next one sees */
	if (__atomic_exchange_n(&pmem->removing, 1, __ATOMIC_ACQUIRE))
		return -EBUSY;
	if (pmem->gone) {
		rc = -ENODEV;
		goto out;
	}
	if (ms >= 0) {
		/* these don't block; a call that timed out has taken them already */
		zd_devm_release_action(&pmem->devm, step_freeze, pmem);
		zd_devm_release_action(&pmem->devm, step_kill, pmem);
		zd_devm_release_action(&pmem->devm, step_revoke, pmem);
		rc = wait_for_holders(pmem, ms, out);
		if (!rc)
			zd_devm_remove_action(&pmem->devm, step_wait, pmem);
	}
	if (!rc) {
		zd_devm_release_all(&pmem->devm);
		rc = pmem->left;
	}
out:
	__atomic_store_n(&pmem->removing, 0, __ATOMIC_RELEASE);
	return rc;
}

int zd_pmem_remove(struct zd_pmem *pmem)
{
	return remove_region(pmem, -1, NULL);
}

int zd_pmem_remove_timeout_sized(struct zd_pmem *pmem, unsigned int ms,
				 struct zd_pmem_holders *out, size_t size)
{
	struct zd_pmem_holders holders = { 0 };
	int err = remove_region(pmem, ms < INT_MAX ? (int)ms : INT_MAX, &holders);

	if (out)
		zd_fill(out, size, &holders, sizeof(holders));
	return err;
}

void zd_pmem_close(struct zd_pmem *pmem)
{
	if (!pmem)
		return;
	if (zd_pmem_remove(pmem) == -EDEADLK)
		return;
	free_region(pmem);
}
