/* SPDX-License-Identifier: MIT */
/*
 * drivers/nbd/trim.c - freed pages go back to the server, whole words of the pool at a time.
 *
 * What a trim is for can't be allocated until the trim is answered.  A server that refuses
 * isn't asked again, and a trim that fails is not repeated: trims are a service to the server.
 */
#include <errno.h>

#include "drivers/nbd/nbd.h"

struct zd_nbd_cmd *zd_nbd_trim_next(struct zd_nbd *nbd)
{
	struct zd_nbd_cmd *cmd;
	uint64_t nr, index;

	if (!nbd->export.trim || nbd->nr_trims == ZD_NBD_TRIMS || cds_list_empty(&nbd->free_cmds))
		return NULL;
	nr = zd_pool_take_idle(&nbd->pool, ZD_NBD_TRIM_WORDS, &index);
	if (!nr)
		return NULL;
	cmd = cds_list_first_entry(&nbd->free_cmds, struct zd_nbd_cmd, node);
	cds_list_del(&cmd->node);
	*cmd = (struct zd_nbd_cmd){ .index = index, .nr = nr };
	nbd->nr_trims++;
	return cmd;
}

/* Any other error may pass. */
static bool is_refusal(int error)
{
	return error == -EPERM || error == -EINVAL || error == -EOPNOTSUPP;
}

void zd_nbd_trim_done(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, bool ok)
{
	if (ok)
		zd_nbd_count(&nbd->stats.trimmed, cmd->nr);
	else if (is_refusal(cmd->error))
		nbd->export.trim = false;
	zd_pool_return_idle(&nbd->pool, cmd->index, cmd->nr);
	nbd->nr_trims--;
	cds_list_add(&cmd->node, &nbd->free_cmds);
}
