/* SPDX-License-Identifier: MIT */
/*
 * zd_migrate_vma_setup/pages/finalize: the server's thread's part; see migrate_vma.c.
 */
#include <errno.h>

#include "engine/land.h"
#include "engine/out.h"
#include "hmm/malloc_rule.h"
#include "hmm/migrate.h"
#include "hmm/migrate_vma.h"
#include "hmm/span.h"

static struct zd_migrate_vma_cmd *to_cmd(struct zd_cmd *cmd)
{
	return caa_container_of(cmd, struct zd_migrate_vma_cmd, cmd);
}

/* The batch's contents are in its buffer. */
static void fetched(struct zd_mig *mig)
{
	struct zd_migrate_vma_cmd *c = mig->data;

	c->fetched = true;
	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];

		/* now, since an mremap may change the address later */
		c->index[i] = (p->addr - c->start) >> ZD_PAGE_SHIFT;
		if (p->step != ZD_MIG_MOVING || !p->mm)
			continue;
		c->src[c->index[i]] = ZD_MIGRATE_PFN_VALID | ZD_MIGRATE_PFN_MIGRATE;
		c->data[c->index[i]] = p->content;
	}
}

/* Note which of the pages that were given a device page are on it. */
static void note_gone(struct zd_migrate_vma_cmd *c, const struct zd_mig *mig)
{
	for (unsigned int i = 0; i < mig->nr; i++) {
		const struct zd_mig_page *p = &mig->page[i];

		if (p->live && p->step == ZD_MIG_DONE && !p->error)
			c->went[c->index[i]] = true;
	}
}

/* The batch has landed, and is freed next. */
static void landed(struct zd_mig *mig)
{
	struct zd_migrate_vma_cmd *c = mig->data;

	note_gone(c, mig);
	for (unsigned int i = 0; i < mig->nr; i++) {
		/* neither gone nor refused: the program has dropped the page meanwhile */
		if (!mig->page[i].error && !c->went[c->index[i]])
			c->result.busy++;
		else
			zd_migrate_count(&c->result, &mig->page[i]);
	}
	c->mig = NULL;
}

/* All pages that may be tried, also those after one that may not. */
static unsigned int collect(struct zd_hmm *hmm, struct zd_migrate_vma_cmd *c, uint64_t *addrs)
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

static int setup(struct zd_hmm *hmm, struct zd_migrate_vma_cmd *c)
{
	struct zd_out_want want = {
		.dev = c->dev, .fetched = fetched, .landed = landed, .data = c,
	};
	uint64_t addrs[ZD_MIG_MAX];
	unsigned int nr;
	int rc;

	if (!zd_is_managed(hmm->mm, c->start, c->end))
		return -EINVAL;
	c->result.already = zd_migrate_count_on(hmm->mm, c->start, c->end, c->dev);
	rc = zd_hmm_attach(hmm, c->dev);
	if (rc)
		return rc;
	nr = collect(hmm, c, addrs);
	if (!nr)
		return 0;
	rc = zd_out_start(hmm->mm, addrs, nr, &want);
	if (rc > 0 && c->fetched)
		/* the newest; where no page moved it has landed already, without ->fetched */
		c->mig = caa_container_of(hmm->server.migs.prev, struct zd_mig, node);
	return rc < 0 ? rc : 0;
}

enum zd_cmd_result zd_migrate_vma_setup_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct zd_migrate_vma_cmd *c = to_cmd(cmd);

	if (hmm->closing)
		return ZD_CMD_WAIT;
	cmd->rc = zd_malloc_rule_changed(hmm, c->strict) ? -ESTALE : setup(hmm, c);
	if (cmd->rc == -EAGAIN)		/* a thread drives the device by itself */
		return ZD_CMD_AGAIN;
	if (cmd->rc == -ENODEV) {
		/* the device's removal has begun: nothing goes, which is counted */
		c->result.device = ((c->end - c->start) >> ZD_PAGE_SHIFT) - c->result.already;
		cmd->rc = 0;
	}
	if (!cmd->rc)
		hmm->nr_steps++;
	return ZD_CMD_DONE;
}

enum zd_cmd_result zd_migrate_vma_pages_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct zd_migrate_vma_cmd *c = to_cmd(cmd);

	(void)hmm;
	if (!c->mig)
		return ZD_CMD_DONE;
	for (unsigned int i = 0; i < c->mig->nr; i++) {
		struct zd_mig_page *p = &c->mig->page[i];

		/* a page that the program has dropped, or only a forked child has, goes back */
		if (p->step != ZD_MIG_MOVING || !p->mm || c->took[c->index[i]] != ZD_VMA_LIVE)
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

/* Pages that have not been decided go back where they were.  The batch may be freed. */
static void send_back(struct zd_migrate_vma_cmd *c)
{
	for (unsigned int i = 0; i < c->mig->nr; i++) {
		struct zd_mig_page *p = &c->mig->page[i];

		if (p->step != ZD_MIG_MOVING)
			continue;
		/* there was no device page for this one, or the program dropped it */
		p->error = p->mm ? -ENOSPC : -ECANCELED;
		p->step = ZD_MIG_BACK;
	}
	zd_out_land(c->mig);
}

enum zd_cmd_result zd_migrate_vma_finalize_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct zd_migrate_vma_cmd *c = to_cmd(cmd);

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
