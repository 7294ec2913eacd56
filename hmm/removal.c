/* SPDX-License-Identifier: MIT */
/*
 * A device is removed while memory of the program is on it.
 *
 * The pagemap has been killed, so nothing new goes out: a batch must take a hold on the
 * pagemap, and fails to; a page on its way is put back, or goes to another device, since
 * zd_page_init() fails.  The engine moves the pages away (engine/tier_removal.h); the program
 * goes on meanwhile.  A device that doesn't answer is waited for until the deadline only; what
 * such a device completes later lands as ever.
 *
 * The steps run in the server's thread, zd_hmm_device_drain() in the one that removes.
 */
#include <errno.h>

#include "base/alloc.h"
#include "engine/tier_removal.h"
#include "hmm/hmm.h"
#include "zonedev/log.h"

#define WARN_AFTER_NS	10000000000ull

struct drain_cmd {
	struct zd_cmd cmd;
	struct zd_device *dev;
	struct zd_tier_removal removal;
	uint64_t warn_ns;	/* when to say that it takes long; 0: not set yet */
};

static void warn_waiting(struct zd_hmm *hmm, struct drain_cmd *c)
{
	struct zd_tier *tier = zd_server_find_tier(&hmm->server, c->dev);

	if (!c->warn_ns)
		c->warn_ns = zd_now_ns() + WARN_AFTER_NS;
	if (zd_now_ns() < c->warn_ns)
		return;
	c->warn_ns = UINT64_MAX;
	zd_log(ZD_LOG_WARN,
	       "removal of %s still waits for %llu pages to leave it, and for %u batches on their way",
	       c->dev->name, (unsigned long long)(tier ? tier->nr_entries : 0),
	       zd_migs_to(&hmm->server, c->dev));
}

static enum zd_cmd_result drain_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct drain_cmd *c = caa_container_of(cmd, struct drain_cmd, cmd);

	cmd->rc = 0;
	warn_waiting(hmm, c);
	/* A batch that is in flight at the deadline holds the pagemap, by its pages or by
	 * itself. */
	if (c->dev->deadline_ns && zd_now_ns() >= c->dev->deadline_ns)
		return ZD_CMD_DONE;
	return zd_tier_removal_step(&hmm->server, &c->removal, &cmd->rc);
}

int zd_hmm_device_drain(struct zd_device *dev)
{
	struct drain_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = drain_step;
	c->dev = c->removal.dev = dev;
	rc = zd_hmm_call_server_of(dev, &c->cmd, dev->deadline_ns);
	zd_free(c);
	return rc;
}
