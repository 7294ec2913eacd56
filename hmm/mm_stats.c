/* SPDX-License-Identifier: MIT */
/* zd_mm_get_stats().  The step runs in the server's thread, the call in the caller's, which
 * blocks. */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/sized.h"
#include "hmm/hmm.h"

struct stats_cmd {
	struct zd_cmd cmd;
	struct zd_mm_stats stats;
};

static enum zd_cmd_result stats_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	caa_container_of(cmd, struct stats_cmd, cmd)->stats = hmm->server.stats.c;
	return ZD_CMD_DONE;
}

int zd_mm_get_stats_sized(struct zd_mm *mm, struct zd_mm_stats *stats, size_t size)
{
	struct stats_cmd *c;
	int rc;

	if (!mm || !stats || !size || size > ZD_SIZED_MAX)
		return -EINVAL;
	c = zd_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->cmd.step = stats_step;
	rc = zd_hmm_call(zd_hmm_of(mm), &c->cmd);
	if (!rc)
		zd_fill(stats, size, &c->stats, sizeof(c->stats));
	zd_free(c);
	return rc;
}
