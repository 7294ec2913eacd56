/* SPDX-License-Identifier: MIT */
/*
 * A device shrinks: its pages above the new size come home, of every address space in turn, while
 * the program goes on.  The driver gives out no such page any more; a batch that has one was on
 * its way before, and is waited for.
 *
 * An address space is walked once.  What a mremap moves behind the walk, or a fork copies, is left
 * for the next call (pages/device_resize.c).
 */
#include <errno.h>

#include "base/alloc.h"
#include "hmm/hmm.h"

struct clear_cmd {
	struct zd_cmd cmd;
	struct zd_device *dev;
	zd_pfn_t first;			/* pages from this one on */
	uint64_t until_ns;		/* 0: for ever */
	struct zd_mm *done;		/* only compared: the last that was walked */
	struct zd_mm *mm;		/* being walked */
	struct zd_homing homing;
	bool flying;			/* at the end, batches have such pages yet */
};

static enum zd_cmd_result clear_mm(struct clear_cmd *c, struct zd_mm *mm)
{
	if (c->mm != mm) {
		c->mm = mm;
		c->homing = (struct zd_homing){
			.end = UINT64_C(1) << ZD_VA_BITS, .dev = c->dev, .first = c->first,
		};
	}
	return zd_homing_step(mm, &c->homing, &c->cmd.rc);
}

/* The server's thread. */
static enum zd_cmd_result clear_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct clear_cmd *c = caa_container_of(cmd, struct clear_cmd, cmd);
	struct zd_tier *tier = zd_server_find_tier(&hmm->server, c->dev);
	bool walked = c->done;
	struct zd_mm *mm;

	cmd->rc = 0;
	c->flying = tier && zd_migs_have(&hmm->server, c->dev, c->first);
	if (!tier || (c->until_ns && zd_now_ns() >= c->until_ns))
		return ZD_CMD_DONE;
	if (c->flying)
		return ZD_CMD_WAIT;
	cds_list_for_each_entry(mm, &hmm->server.mms, node) {
		enum zd_cmd_result r;

		if (walked) {
			walked = mm != c->done;
			continue;
		}
		if (!mm->on_tier[tier->slot] || mm->dead)
			continue;
		r = clear_mm(c, mm);
		if (c->homing.error && !cmd->rc)
			cmd->rc = c->homing.error;
		if (cmd->rc)
			return ZD_CMD_DONE;
		if (r != ZD_CMD_DONE)
			return r;
		c->done = mm;
		c->mm = NULL;
	}
	return ZD_CMD_DONE;
}

/* A thread of the program but the server's; blocks. */
int zd_hmm_device_clear(struct zd_device *dev, zd_pfn_t first, uint64_t until_ns, bool *flying)
{
	struct clear_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = clear_step;
	c->dev = dev;
	c->first = first;
	c->until_ns = until_ns;
	rc = zd_hmm_call_server_of(dev, &c->cmd, until_ns);
	*flying = c->flying;
	zd_free(c);
	return rc && rc != -ENOMEM && rc != -EAGAIN && rc != -EINVAL ? -EIO : rc;
}
