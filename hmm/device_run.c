/* SPDX-License-Identifier: MIT */
/*
 * A batch that isn't a migration, on a device that a server drives: a command submits the
 * batch, and is done when the batch is.  The batch completes in the server's thread, as any
 * other does.
 */
#include <errno.h>

#include "base/alloc.h"
#include "hmm/hmm.h"

struct run_cmd {
	struct zd_cmd cmd;
	struct zd_device *dev;
	struct zd_device_io *io;
	bool met;		/* the server that got the command drives @dev */
	bool submitted, done;
};

/* The server's thread. */
static void run_done(struct zd_device_io *io)
{
	struct run_cmd *c = io->owner;

	c->done = true;
}

static enum zd_cmd_result run_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct run_cmd *c = caa_container_of(cmd, struct run_cmd, cmd);

	if (!c->submitted && !zd_server_find_tier(&hmm->server, c->dev))
		return ZD_CMD_DONE;
	c->met = true;
	if (!c->submitted) {
		c->submitted = true;
		c->dev->ops->submit(c->dev, c->io);
	} else if (!c->done && c->dev->event_fd < 0) {
		c->dev->ops->reap(c->dev, false);
	}
	return c->done ? ZD_CMD_DONE : ZD_CMD_WAIT;
}

/* Any thread of the program but the server's; blocks. */
int zd_hmm_device_run(struct zd_device *dev, struct zd_device_io *io)
{
	struct run_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = run_step;
	c->dev = dev;
	c->io = io;
	io->owner = c;
	io->done = run_done;
	rc = zd_hmm_call_server_of(dev, &c->cmd, 0);
	if (!rc && !c->met)
		rc = -EAGAIN;
	zd_free(c);
	return rc;
}
