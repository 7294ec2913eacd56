/* SPDX-License-Identifier: MIT */
/*
 * A region taken apart.
 *
 * What open.c sets up in order is undone in reverse order by the actions of a struct zd_devm,
 * one function a step:
 *
 *	freeze		no request enters the queue
 *	kill		no page can be had any more, nor a mapping
 *	revoke		mappings go; the base reference is put
 *	wait		for requests, which hold the gate and the pagemap, and for pages
 *	exit		the pagemap goes
 *	release queue	the BTT is closed; what was written is made durable
 *	unmap, close	the media
 *
 * The queue's gate outlives these steps: later callers find it closed, until the handle is
 * freed.  One thread at a time takes the steps (@removing).
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/sized.h"
#include "base/time.h"
#include "drivers/btt/btt.h"
#include "drivers/media/record.h"
#include "drivers/pmem/pmem.h"
#include "drivers/teardown.h"
#include "pages/pagemap.h"
#include "zonedev/log.h"

/* --- the steps --- */

static void step(struct zd_pmem *pmem, const char *what)
{
	zd_teardown_step(&pmem->dax.pgmap, what);
}

void zd_pmem_step_close(void *data)
{
	struct zd_pmem *pmem = data;

	step(pmem, "close");
	zd_pmem_close_file(&pmem->media);
}

void zd_pmem_step_unmap(void *data)
{
	struct zd_pmem *pmem = data;

	step(pmem, "unmap");
	__atomic_store_n(&pmem->gone, true, __ATOMIC_RELEASE);
	zd_media_unmap(&pmem->media);
}

void zd_pmem_step_release_queue(void *data)
{
	struct zd_pmem *pmem = data;
	struct zd_media *m = &pmem->media;
	uint64_t bad;

	step(pmem, "release queue");
	/* an error that this finds stays, for zd_pmem_reopen(): see reopen.c */
	if (pmem->btt)
		zd_btt_close(pmem->btt);
	else
		zd_media_sync(m);
	pmem->btt = NULL;
	pmem->removal_error = zd_media_sync_error(m);
	/* the file may have been cut since the last request */
	if (zd_media_check_end(m, 0, m->bytes, &bad))
		pmem->removal_error = -EIO;
	zd_media_record(m, ZD_RECORD_ALL);
}

static void step_exit(void *data)
{
	zd_dax_exit(&((struct zd_pmem *)data)->dax);
}

/* Wait for requests, @ms milliseconds or (@ms < 0) as long as it takes.  How much of @ms is left,
 * or -ETIMEDOUT. */
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

/* Wait for requests, and then for all other holders of the pagemap; @out tells of both. */
static int wait_for_holders(struct zd_pmem *pmem, int ms, struct zd_pmem_holders *out)
{
	int left = wait_for_requests(pmem, ms), rc;
	/* Each holds the pagemap.  Counted before the pagemap's references are: a request that
	 * ends in between must not be told as a holder that isn't known. */
	uint64_t users = zd_pmem_queue_users(&pmem->queue);

	/* also after a time-out: @out tells of the holders of pages, too */
	rc = zd_dax_wait(&pmem->dax, left == -ETIMEDOUT ? 0 : left, out ? &out->pages : NULL);
	if (left == -ETIMEDOUT)
		rc = -ETIMEDOUT;
	if (rc && out) {
		uint64_t *refs = &out->pages.nr_refs;

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

/* In the order in which they are registered: the last one is taken first. */
static zd_devm_action_t *const page_steps[] = {
	step_exit, step_wait, step_revoke, step_kill, step_freeze,
};
#define NR_PAGE_STEPS	((int)(sizeof(page_steps) / sizeof(page_steps[0])))

int zd_pmem_add_page_steps(struct zd_pmem *pmem)
{
	return zd_teardown_add(&pmem->devm, page_steps, NR_PAGE_STEPS, pmem);
}

/* --- removal --- */

void zd_pmem_free(struct zd_pmem *pmem)
{
	zd_badblocks_exit(&pmem->media.bad);
	zd_badblocks_exit(&pmem->media.mended);
	zd_pmem_queue_destroy(&pmem->queue);
	zd_free(pmem->path);
	zd_free(pmem);
}

/* Any thread that holds nothing of the region.  With @ms >= 0 only the wait for holders is
 * bounded. */
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
		/* these steps don't block; a call that timed out has taken them already */
		zd_devm_release_action(&pmem->devm, step_freeze, pmem);
		zd_devm_release_action(&pmem->devm, step_kill, pmem);
		zd_devm_release_action(&pmem->devm, step_revoke, pmem);
		rc = wait_for_holders(pmem, ms, out);
		if (!rc)
			zd_devm_remove_action(&pmem->devm, step_wait, pmem);
	}
	if (!rc) {
		zd_devm_release_all(&pmem->devm);
		rc = pmem->removal_error;
	}
out:
	__atomic_store_n(&pmem->removing, 0, __ATOMIC_RELEASE);
	return rc;
}

int zd_pmem_remove(struct zd_pmem *pmem)
{
	return remove_region(pmem, -1, NULL);
}

int zd_pmem_remove_timeout_sized(struct zd_pmem *pmem, unsigned int ms, struct zd_pmem_holders *out,
				 size_t size)
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
	zd_pmem_free(pmem);
}
