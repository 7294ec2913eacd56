/* SPDX-License-Identifier: MIT */
/*
 * zd_migrate_vma_setup/pages/finalize: the three steps for drivers that copy by
 * themselves.
 *
 * setup takes the pages out as any migration does, but instead of giving them to
 * a device the batch stops with its contents in its buffer.  pages sets what
 * becomes a device page and lands that part; finalize sends the rest back and
 * waits until the batch is gone.
 */
#include <errno.h>
#include <string.h>

#include "core/alloc.h"
#include "mm/migrate.h"
#include "zonedev/log.h"

struct vma_cmd {
	struct zd_cmd cmd;
	uint64_t start, end, pos;
	struct zd_device *dev;
	struct zd_library *lib;
	struct zd_mig *mig;	/* NULL: no page was collected, or all are settled */
	struct zd_migrate_result result;
	bool fetched;
	uint16_t index[ZD_MIG_MAX];	/* of a batch's page in src, dst and data */
	uint64_t src[ZD_MIGRATE_VMA_MAX];
	uint64_t dst[ZD_MIGRATE_VMA_MAX];
	const void *data[ZD_MIGRATE_VMA_MAX];
};

static struct vma_cmd *to_vma_cmd(struct zd_cmd *cmd)
{
	return caa_container_of(cmd, struct vma_cmd, cmd);
}

static void fetched(struct zd_mig *mig)
{
	struct vma_cmd *c = mig->landed_data;

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

static void landed(struct zd_mig *mig)
{
	struct vma_cmd *c = mig->landed_data;

	for (unsigned int i = 0; i < mig->nr; i++)
		zd_migrate_count(&c->result, &mig->page[i]);
	c->mig = NULL;
}

static int setup(struct zd_library *lib, struct vma_cmd *c)
{
	struct zd_out_want want = { .fetched = fetched, .landed = landed, .data = c };
	uint64_t addrs[ZD_MIG_MAX];
	unsigned int nr = 0;
	bool whole;
	int rc;

	if (!zd_library_managed(lib->mm, c->start, c->end))
		return -EINVAL;
	rc = zd_library_attach(lib, c->dev);
	if (rc)
		return rc;
	while (!nr && c->pos < c->end)
		nr = zd_migrate_collect(lib, &c->pos, c->end, &c->result, addrs, &whole);
	if (!nr)
		return 0;
	rc = zd_out_start(lib->mm, addrs, nr, &want);
	if (rc > 0 && c->fetched)
		/* the newest batch, unless no page of it moved and it landed */
		c->mig = caa_container_of(lib->server.migs.prev, struct zd_mig, node);
	return rc < 0 ? rc : 0;
}

static enum zd_cmd_result setup_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	struct vma_cmd *c = to_vma_cmd(cmd);

	if (lib->closing)
		return ZD_CMD_WAIT;
	c->lib = lib;
	cmd->rc = setup(lib, c);
	if (cmd->rc == -EAGAIN)		/* somebody is still using the device */
		return ZD_CMD_AGAIN;
	if (cmd->rc == -ENODEV) {
		/* its removal has begun: nothing is collected, and it is counted */
		c->result.device += (c->end - c->start) >> ZD_PAGE_SHIFT;
		cmd->rc = 0;
	}
	return ZD_CMD_DONE;
}

static enum zd_cmd_result pages_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	struct vma_cmd *c = to_vma_cmd(cmd);

	(void)lib;
	if (!c->mig)
		return ZD_CMD_DONE;
	for (unsigned int i = 0; i < c->mig->nr; i++) {
		struct zd_mig_page *p = &c->mig->page[i];
		zd_pfn_t pfn = 0;

		if (p->step != ZD_MIG_MOVING)
			continue;
		if (p->mm)
			pfn = zd_migrate_pfn_to_pfn(c->dst[c->index[i]]);
		if (!pfn)
			continue;
		p->pfn = pfn;
		p->step = ZD_MIG_STORE;
		c->dst[c->index[i]] = 0;	/* the page's now */
	}
	zd_out_land(c->mig);
	return ZD_CMD_DONE;
}

static enum zd_cmd_result finalize_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	struct vma_cmd *c = to_vma_cmd(cmd);

	(void)lib;
	if (!c->mig)
		return ZD_CMD_DONE;
	for (unsigned int i = 0; i < c->mig->nr; i++) {
		struct zd_mig_page *p = &c->mig->page[i];

		if (p->step == ZD_MIG_MOVING) {
			p->error = -ECANCELED;
			p->step = ZD_MIG_BACK;
		}
	}
	zd_out_land(c->mig);
	return c->mig ? ZD_CMD_WAIT : ZD_CMD_DONE;
}

/* --- the caller's side --- */

static int run(struct zd_migrate_vma *args, struct vma_cmd *c,
	       enum zd_cmd_result (*step)(struct zd_library *, struct zd_cmd *))
{
	c->cmd.step = step;
	c->cmd.rc = 0;
	return zd_library_call(zd_library_of(args->mm), &c->cmd);
}

static uint64_t npages(const struct zd_migrate_vma *args)
{
	return (args->end - args->start) >> ZD_PAGE_SHIFT;
}

int zd_migrate_vma_setup(struct zd_migrate_vma *args)
{
	struct vma_cmd *c;
	int rc;

	if (!args || !args->mm || !args->dev || !args->src || !args->dst || !args->data ||
	    args->start >= args->end || (args->start | args->end) & (ZD_PAGE_SIZE - 1) ||
	    args->end > UINT64_C(1) << ZD_VA_BITS || npages(args) > ZD_MIGRATE_VMA_MAX)
		return -EINVAL;
	c = zd_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->start = c->pos = args->start;
	c->end = args->end;
	c->dev = args->dev;
	rc = run(args, c, setup_step);
	if (rc) {
		zd_free(c);
		return rc;
	}
	args->cpages = 0;
	for (uint64_t i = 0; i < npages(args); i++) {
		args->src[i] = c->src[i];
		args->data[i] = c->data[i];
		args->dst[i] = 0;
		args->cpages += c->src[i] != 0;
	}
	args->private_data = c;
	return 0;
}

/* A free page of the device, as ->alloc_pages gave it? */
static bool good_dst(const struct zd_migrate_vma *args, uint64_t mpfn)
{
	zd_pfn_t pfn = zd_migrate_pfn_to_pfn(mpfn);

	return mpfn & ZD_MIGRATE_PFN_VALID &&
	       zd_device_page_index(args->dev, pfn) < args->dev->nr_pages &&
	       !zd_page_count(zd_pfn_to_page(pfn));
}

void zd_migrate_vma_pages(struct zd_migrate_vma *args)
{
	struct vma_cmd *c = args->private_data;

	for (uint64_t i = 0; i < npages(args); i++) {
		c->dst[i] = 0;
		if (!args->dst[i])
			continue;
		if (good_dst(args, args->dst[i]))
			c->dst[i] = args->dst[i];
		else
			zd_warn_once("zd_migrate_vma_pages: dst[] names no free page of the device");
	}
	if (run(args, c, pages_step))
		return;
	for (uint64_t i = 0; i < npages(args); i++) {
		zd_pfn_t pfn = zd_migrate_pfn_to_pfn(c->dst[i]);

		if (!c->dst[i])
			continue;
		/* nobody's any more: unmapped since setup */
		args->dev->ops->unalloc_pages(args->dev, 1, &pfn);
		args->src[i] &= ~ZD_MIGRATE_PFN_MIGRATE;
		args->dst[i] = 0;
	}
}

void zd_migrate_vma_finalize(struct zd_migrate_vma *args)
{
	struct vma_cmd *c = args->private_data;

	run(args, c, finalize_step);
	args->result = c->result;
	args->private_data = NULL;
	zd_free(c);
}
