/* SPDX-License-Identifier: MIT */
/*
 * zd_migrate_vma_setup/pages/finalize: the three steps for drivers that copy by
 * themselves.
 *
 * setup takes the pages out as any migration does, but instead of giving them to
 * a device the batch stops with its contents in its buffer.  pages sets what
 * becomes a device page and lands that part; finalize sends the rest back and
 * waits until the batch is gone.
 *
 * Device pages.  What dst[] names is taken over by the caller's thread (take()),
 * before the server hears of it: from then on vma_cmd.took says what has to be given
 * back.  The server keeps the reference of a page that goes (vma_cmd.went), and
 * touches no other.  finalize gives back the others, also in the caller's thread.
 * A live page's word is the address that it is for, so a page that is named twice, or
 * that is in use elsewhere, is found out by one compare and exchange.
 *
 * Steps that are never finished: the process exits in the middle, or the thread is
 * gone.  zd_mm_close() refuses (hmm->nr_steps), and exit sends the pages back
 * (zd_migrate_vma_abandon), so that neither waits for ever.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/sized.h"
#include "engine/land.h"
#include "engine/out.h"
#include "hmm/migrate.h"
#include "hmm/span.h"
#include "zonedev/log.h"

/* What dst[i] named is ours to give back: */
enum vma_took {
	VMA_NOTHING,
	VMA_FREE,	/* by ->unalloc_pages: it could not be initialised */
	VMA_LIVE,	/* by a put */
};

struct vma_cmd {
	struct zd_cmd cmd;
	uint64_t start, end, pos;
	struct zd_device *dev;
	struct zd_ranges stay;
	struct zd_mig *mig;	/* NULL: no page was collected, or all are settled */
	struct zd_migrate_result result;
	size_t size;		/* of the caller's struct zd_migrate_vma */
	bool fetched;
	bool paged;		/* pages has been called */
	uint16_t index[ZD_MIG_MAX];	/* of a batch's page in src, dst and data */
	uint64_t src[ZD_MIGRATE_VMA_MAX];
	const void *data[ZD_MIGRATE_VMA_MAX];
	zd_pfn_t dst[ZD_MIGRATE_VMA_MAX];
	uint8_t took[ZD_MIGRATE_VMA_MAX];	/* enum vma_took */
	bool went[ZD_MIGRATE_VMA_MAX];
};

static struct vma_cmd *to_vma_cmd(struct zd_cmd *cmd)
{
	return caa_container_of(cmd, struct vma_cmd, cmd);
}

static void fetched(struct zd_mig *mig)
{
	struct vma_cmd *c = mig->data;

	c->fetched = true;
	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];

		/* now: later an mremap may have changed the address */
		c->index[i] = (p->addr - c->start) >> ZD_PAGE_SHIFT;
		if (p->step != ZD_MIG_MOVING || !p->mm)
			continue;
		c->src[c->index[i]] = ZD_MIGRATE_PFN_VALID | ZD_MIGRATE_PFN_MIGRATE;
		c->data[c->index[i]] = p->content;
	}
}

/* Which of the pages that were given a device page are on it. */
static void note_gone(struct vma_cmd *c, const struct zd_mig *mig)
{
	for (unsigned int i = 0; i < mig->nr; i++) {
		const struct zd_mig_page *p = &mig->page[i];

		if (p->live && p->step == ZD_MIG_DONE && !p->error)
			c->went[c->index[i]] = true;
	}
}

static void landed(struct zd_mig *mig)
{
	struct vma_cmd *c = mig->data;

	note_gone(c, mig);
	for (unsigned int i = 0; i < mig->nr; i++) {
		/* neither gone nor refused: the program has dropped it meanwhile */
		if (!mig->page[i].error && !c->went[c->index[i]])
			c->result.busy++;
		else
			zd_migrate_count(&c->result, &mig->page[i]);
	}
	c->mig = NULL;
}

/* Every page that may be tried, over those between that may not. */
static unsigned int collect(struct zd_hmm *hmm, struct vma_cmd *c, uint64_t *addrs)
{
	unsigned int nr = 0, more;
	bool whole;

	while (c->pos < c->end) {
		more = zd_migrate_collect(hmm, &c->pos, c->end, &c->stay, &c->result, addrs + nr,
					  &whole);
		nr += more;
		if (more)
			c->pos = addrs[nr - 1] + ZD_PAGE_SIZE;
	}
	return nr;
}

static int setup(struct zd_hmm *hmm, struct vma_cmd *c)
{
	struct zd_out_want want = { .fetched = fetched, .landed = landed, .data = c };
	uint64_t addrs[ZD_MIG_MAX];
	unsigned int nr;
	int rc;

	if (!zd_is_managed(hmm->mm, c->start, c->end))
		return -EINVAL;
	c->result.already = zd_migrate_on_device(hmm->mm, c->start, c->end);
	rc = zd_hmm_attach(hmm, c->dev);
	if (rc)
		return rc;
	nr = collect(hmm, c, addrs);
	if (!nr)
		return 0;
	rc = zd_out_start(hmm->mm, addrs, nr, &want);
	if (rc > 0 && c->fetched)
		/* the newest batch, unless no page of it moved and it landed */
		c->mig = caa_container_of(hmm->server.migs.prev, struct zd_mig, node);
	return rc < 0 ? rc : 0;
}

static enum zd_cmd_result setup_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct vma_cmd *c = to_vma_cmd(cmd);

	if (hmm->closing)
		return ZD_CMD_WAIT;
	cmd->rc = setup(hmm, c);
	if (cmd->rc == -EAGAIN)		/* somebody is still using the device */
		return ZD_CMD_AGAIN;
	if (cmd->rc == -ENODEV) {
		/* its removal has begun: nothing is collected, and it is counted */
		c->result.device = ((c->end - c->start) >> ZD_PAGE_SHIFT) - c->result.already;
		cmd->rc = 0;
	}
	if (!cmd->rc)
		hmm->nr_steps++;
	return ZD_CMD_DONE;
}

static enum zd_cmd_result pages_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct vma_cmd *c = to_vma_cmd(cmd);

	(void)hmm;
	if (!c->mig)
		return ZD_CMD_DONE;
	for (unsigned int i = 0; i < c->mig->nr; i++) {
		struct zd_mig_page *p = &c->mig->page[i];

		/* one that nobody owns any more, or a forked child alone, goes back */
		if (p->step != ZD_MIG_MOVING || !p->mm || c->took[c->index[i]] != VMA_LIVE)
			continue;
		p->pfn = c->dst[c->index[i]];
		p->live = true;
		p->step = ZD_MIG_STORE;
	}
	zd_out_land(c->mig);
	if (c->mig)
		note_gone(c, c->mig);
	return ZD_CMD_DONE;
}

/* What has not been decided goes back where it was.  (The batch may be freed.) */
static void send_back(struct vma_cmd *c)
{
	for (unsigned int i = 0; i < c->mig->nr; i++) {
		struct zd_mig_page *p = &c->mig->page[i];

		if (p->step != ZD_MIG_MOVING)
			continue;
		/* there was no device page for it, or it was dropped meanwhile */
		p->error = p->mm ? -ENOSPC : -ECANCELED;
		p->step = ZD_MIG_BACK;
	}
	zd_out_land(c->mig);
}

static enum zd_cmd_result finalize_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct vma_cmd *c = to_vma_cmd(cmd);

	if (c->mig)
		send_back(c);
	if (c->mig)
		return ZD_CMD_WAIT;
	hmm->nr_steps--;
	return ZD_CMD_DONE;
}

void zd_migrate_vma_abandon(struct zd_hmm *hmm)
{
	struct zd_mig *mig, *next;

	cds_list_for_each_entry_safe(mig, next, &hmm->server.migs, node)
		if (mig->fetched)
			send_back(mig->data);
}

/* --- the caller's side --- */

static int run(struct zd_migrate_vma *args, struct vma_cmd *c,
	       enum zd_cmd_result (*step)(struct zd_hmm *, struct zd_cmd *))
{
	c->cmd.step = step;
	c->cmd.rc = 0;
	return zd_hmm_call(zd_hmm_of(args->mm), &c->cmd);
}

static uint64_t start_of(const struct zd_migrate_vma *args)
{
	return (uintptr_t)args->start;
}

static uint64_t end_of(const struct zd_migrate_vma *args)
{
	return (uintptr_t)args->end;
}

static uint64_t npages(const struct zd_migrate_vma *args)
{
	return (end_of(args) - start_of(args)) >> ZD_PAGE_SHIFT;
}

static bool good_args(const struct zd_migrate_vma *args)
{
	return args->mm && args->dev && args->src && args->dst && args->data &&
	       start_of(args) < end_of(args) &&
	       !((start_of(args) | end_of(args)) & (ZD_PAGE_SIZE - 1)) &&
	       end_of(args) <= UINT64_C(1) << ZD_VA_BITS && npages(args) <= ZD_MIGRATE_VMA_MAX;
}

/* Up to @result, which is the last member. */
#define MIN_SIZE	offsetof(struct zd_migrate_vma, result)

static void put_result(struct zd_migrate_vma *args, size_t size,
		       const struct zd_migrate_result *result)
{
	zd_fill(&args->result, size - MIN_SIZE, result, sizeof(*result));
}

int zd_migrate_vma_setup_sized(struct zd_migrate_vma *args, size_t size)
{
	static const struct zd_migrate_result none;
	struct vma_cmd *c;
	int rc;

	if (!args || size < MIN_SIZE)
		return -EINVAL;
	args->cpages = 0;
	args->priv = NULL;
	put_result(args, size, &none);
	if (!good_args(args))
		return -EINVAL;
	c = zd_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->start = c->pos = start_of(args);
	c->end = end_of(args);
	c->dev = args->dev;
	c->size = size;
	rc = zd_migrate_stay(c->start, c->end, args->dev, &c->stay);
	if (!rc)
		rc = run(args, c, setup_step);
	zd_ranges_destroy(&c->stay);
	if (rc) {
		zd_free(c);
		return rc;
	}
	for (uint64_t i = 0; i < npages(args); i++) {
		args->src[i] = c->src[i];
		args->data[i] = c->data[i];
		args->dst[i] = 0;
		args->cpages += c->src[i] != 0;
	}
	args->priv = c;
	return 0;
}

/* The steps that setup began, or NULL, with a warning. */
static struct vma_cmd *steps_of(struct zd_migrate_vma *args, const char *call)
{
	struct vma_cmd *c = args ? args->priv : NULL;

	if (!c)
		zd_warn_once("%s: no zd_migrate_vma_setup() before it that returned 0", call);
	return c;
}

/* dst[i] names a page of the device, in no other bits than zd_migrate_pfn() sets? */
static struct zd_page *dst_page(const struct zd_migrate_vma *args, uint64_t i)
{
	zd_pfn_t pfn = zd_migrate_pfn_to_pfn(args->dst[i]);

	if (args->dst[i] != zd_migrate_pfn(pfn) ||
	    zd_device_page_index(args->dev, pfn) >= args->dev->nr_pages)
		return NULL;
	return zd_pfn_to_page(pfn);
}

/*
 * Take over what dst[i] names.  False: it is not a page that can be had.  @init: a
 * page as ->alloc_pages gave it is initialised in the driver's stead.
 */
static bool take(struct zd_migrate_vma *args, struct vma_cmd *c, uint64_t i, bool init)
{
	struct zd_page *page = dst_page(args, i);
	uint64_t unused = 0;

	if (!page || (int32_t)zd_page_count(page) < 0)
		return false;
	c->dst[i] = zd_page_to_pfn(page);
	if (!zd_page_count(page)) {
		if (!init)
			return true;	/* or was one, and has been put: leave it alone */
		if (zd_page_init(page)) {
			c->took[i] = VMA_FREE;
			return true;
		}
	}
	if (!__atomic_compare_exchange_n(&page->word, &unused, start_of(args) + i * ZD_PAGE_SIZE,
					 false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return false;
	c->took[i] = VMA_LIVE;
	return true;
}

static void take_all(struct zd_migrate_vma *args, struct vma_cmd *c, bool init)
{
	for (uint64_t i = 0; i < npages(args); i++)
		if (args->dst[i] && !take(args, c, i, init))
			zd_warn_once("zd_migrate_vma: dst[] names no page of the device, or one that is in use: it is left alone");
}

static void give_back(struct zd_migrate_vma *args, struct vma_cmd *c, uint64_t i)
{
	struct zd_page *page = zd_pfn_to_page(c->dst[i]);

	if (c->took[i] == VMA_NOTHING || c->went[i])
		return;
	if (args->dst[i] != zd_migrate_pfn(c->dst[i])) {
		/* the driver has taken it back */
		if (zd_page_count(page))
			page->word = 0;
	} else if (c->took[i] == VMA_FREE) {
		args->dev->ops->unalloc_pages(args->dev, 1, &c->dst[i]);
	} else if (zd_page_count(page)) {
		zd_put_page(page);
	} else {
		zd_warn_once("zd_migrate_vma_finalize: dst[] names a page that the driver has put: clear the entry");
	}
}

void zd_migrate_vma_pages(struct zd_migrate_vma *args)
{
	struct vma_cmd *c = steps_of(args, "zd_migrate_vma_pages");

	if (!c)
		return;
	if (c->paged) {
		zd_warn_once("zd_migrate_vma_pages: called twice");
		return;
	}
	c->paged = true;
	if (!zd_hmm_callable(zd_hmm_of(args->mm))) {
		take_all(args, c, true);
		run(args, c, pages_step);
	}
	for (uint64_t i = 0; i < npages(args); i++)
		if (!c->went[i])
			args->src[i] &= ~ZD_MIGRATE_PFN_MIGRATE;
}

void zd_migrate_vma_finalize(struct zd_migrate_vma *args)
{
	struct vma_cmd *c = steps_of(args, "zd_migrate_vma_finalize");

	/* in a forked child: they are the parent's */
	if (!c || zd_hmm_callable(zd_hmm_of(args->mm)))
		return;
	if (!c->paged)
		take_all(args, c, false);
	run(args, c, finalize_step);
	for (uint64_t i = 0; i < npages(args); i++) {
		give_back(args, c, i);
		if (!c->went[i])
			args->src[i] &= ~ZD_MIGRATE_PFN_MIGRATE;
	}
	zd_migrate_count_rest(&c->result, npages(args));
	put_result(args, c->size, &c->result);
	args->priv = NULL;
	zd_free(c);
}
