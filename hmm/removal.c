/* SPDX-License-Identifier: MIT */
/*
 * A device is removed while memory of the program is on it.
 *
 * The pagemap has been killed, so nothing new goes out: a batch must take a hold on the
 * pagemap, and fails to; a page on its way is put back, since zd_page_init() fails.  Every
 * address space brings its pages home, as a fault would; the program goes on meanwhile.  A
 * device that doesn't answer is waited for until the deadline only; what such a device
 * completes later lands as ever.
 *
 * A page that can't come home (the device can't read it, there is no memory for it) stays
 * on the device as it was, and calls the removal off.  It is not poisoned: poison is for a
 * thread that must have the page now.
 *
 * The steps run in the server's thread, zd_hmm_device_drain() in the one that removes.
 */
#include <errno.h>

#include "base/alloc.h"
#include "hmm/hmm.h"
#include "zonedev/log.h"

#define WARN_AFTER_NS	10000000000ull

struct drain_cmd {
	struct zd_cmd cmd;
	struct zd_device *dev;
	struct zd_mm *mm;	/* being brought home */
	struct zd_homing homing;
	uint64_t warn_ns;	/* when to say that it takes long; 0: not set yet */
};

static enum zd_cmd_result drain_mm(struct drain_cmd *c, struct zd_mm *mm)
{
	if (c->mm != mm) {
		c->mm = mm;
		c->homing = (struct zd_homing){
			.end = UINT64_C(1) << ZD_VA_BITS, .dev = c->dev,
		};
	}
	return zd_homing_step(mm, &c->homing, &c->cmd.rc);
}

/* The removal ends here, for @error. */
static enum zd_cmd_result called_off(struct drain_cmd *c, int error)
{
	c->cmd.rc = error == -ENOMEM ? -ENOMEM : -EIO;
	zd_log(ZD_LOG_WARN, "%s stays: %s", c->dev->name,
	       error == -ENOMEM ? "no memory for what is on it" :
				  "it can't read back what is on it");
	return ZD_CMD_DONE;
}

static void warn_waiting(struct zd_hmm *hmm, struct drain_cmd *c)
{
	struct zd_tier *tier = zd_server_find_tier(&hmm->server, c->dev);

	if (!c->warn_ns)
		c->warn_ns = zd_now_ns() + WARN_AFTER_NS;
	if (zd_now_ns() < c->warn_ns)
		return;
	c->warn_ns = UINT64_MAX;
	zd_log(ZD_LOG_WARN,
	       "removal of %s still waits for %llu pages to come home, and for %u batches on their way to it",
	       c->dev->name, (unsigned long long)(tier ? tier->nr_entries : 0),
	       zd_migs_to(&hmm->server, c->dev));
}

/* One step, for the first address space that has pages on the device. */
static enum zd_cmd_result drain_all(struct zd_hmm *hmm, struct drain_cmd *c)
{
	struct zd_tier *tier = zd_server_find_tier(&hmm->server, c->dev);
	struct zd_mm *mm;

	if (!tier)
		return ZD_CMD_DONE;
	cds_list_for_each_entry(mm, &hmm->server.mms, node) {
		enum zd_cmd_result r;

		if (!mm->on_tier[tier->slot] || mm->dead)
			continue;
		r = drain_mm(c, mm);
		if (c->homing.error || c->cmd.rc)
			return called_off(c, c->homing.error ? c->homing.error : c->cmd.rc);
		if (r != ZD_CMD_DONE)
			return r;
		if (mm->on_tier[tier->slot]) {	/* sent out behind c->homing.pos */
			c->mm = NULL;
			return ZD_CMD_AGAIN;
		}
	}
	/* batches land by themselves; their pages are put back or home */
	return zd_migs_to(&hmm->server, c->dev) ? ZD_CMD_WAIT : ZD_CMD_DONE;
}

static enum zd_cmd_result drain_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct drain_cmd *c = caa_container_of(cmd, struct drain_cmd, cmd);

	cmd->rc = 0;
	warn_waiting(hmm, c);
	/* A batch that is in flight at the deadline holds the pagemap, by its pages or by
	 * itself. */
	return c->dev->deadline_ns && zd_now_ns() >= c->dev->deadline_ns ? ZD_CMD_DONE :
									   drain_all(hmm, c);
}

int zd_hmm_device_drain(struct zd_device *dev)
{
	struct drain_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = drain_step;
	c->dev = dev;
	rc = zd_hmm_call_server_of(dev, &c->cmd, dev->deadline_ns);
	zd_free(c);
	return rc;
}
