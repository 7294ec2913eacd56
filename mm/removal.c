/* SPDX-License-Identifier: MIT */
/*
 * A device is removed while memory of the program is on it.
 *
 * The pagemap has been killed: nothing new goes out (zd_page_init() fails, and a
 * page on its way is put back).  Every address space brings its pages home, as a
 * fault would; the program goes on meanwhile.  A device that doesn't answer is
 * waited for until the deadline only; what it completes later lands as ever.
 */
#include <errno.h>

#include "core/alloc.h"
#include "core/device_host.h"
#include "mm/library.h"
#include "zonedev/log.h"

struct drain_cmd {
	struct zd_cmd cmd;
	struct zd_device *dev;
	struct zd_mm *mm;	/* being brought home */
	struct zd_homing homing;
};

static enum zd_cmd_result drain_mm(struct drain_cmd *c, struct zd_mm *mm)
{
	if (c->mm != mm) {
		c->mm = mm;
		c->homing = (struct zd_homing){ .end = UINT64_C(1) << ZD_VA_BITS };
	}
	return zd_homing_step(mm, &c->homing, &c->cmd.rc);
}

static enum zd_cmd_result drain_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	struct drain_cmd *c = caa_container_of(cmd, struct drain_cmd, cmd);
	struct zd_mm *mm;

	cmd->rc = 0;
	if (c->dev->deadline_ns && zd_now_ns() >= c->dev->deadline_ns) {
		/* a page on its way out holds nothing yet: the device would be
		 * destroyed under the batch */
		if (lib->server.nr_migs[ZD_TO_DEVICE])
			cmd->rc = -ETIMEDOUT;
		return ZD_CMD_DONE;
	}
	cds_list_for_each_entry(mm, &lib->server.mms, node) {
		enum zd_cmd_result r;

		if (!mm->nr_device || mm->dead)
			continue;
		r = drain_mm(c, mm);
		if (r != ZD_CMD_DONE)
			return r;
		if (cmd->rc) {
			zd_log(ZD_LOG_WARN, "%s stays: no memory for what is on it",
			       c->dev->name);
			return ZD_CMD_DONE;
		}
		if (mm->nr_device) {	/* behind us again */
			c->mm = NULL;
			return ZD_CMD_AGAIN;
		}
	}
	/* batches land by themselves; their pages are put back or home */
	return lib->server.nr_migs[ZD_TO_DEVICE] ? ZD_CMD_WAIT : ZD_CMD_DONE;
}

static int drain(struct zd_device *dev)
{
	struct zd_server *server = dev->server;
	struct drain_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = drain_step;
	c->dev = dev;
	rc = zd_library_call(server->host_data, &c->cmd);
	zd_free(c);
	return rc;
}

static enum zd_cmd_result detach_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	(void)cmd;
	zd_server_detach(&lib->server);
	return ZD_CMD_DONE;
}

/* Must not fail for want of memory: the device is destroyed next. */
static void detach(struct zd_device *dev)
{
	struct zd_server *server = dev->server;
	struct zd_library *lib = server->host_data;

	lib->detach.step = detach_step;
	zd_library_call(lib, &lib->detach);
}

const struct zd_device_host zd_library_device_host = {
	.drain = drain,
	.detach = detach,
};
