/* SPDX-License-Identifier: MIT */
/*
 * drivers/nbd/trim.c - freed pages go back to the server, whole words of the pool at a time.
 *
 * What a trim is for can't be allocated until the trim is answered.  A server that answers with
 * an error isn't asked again: trims are a service to it.
 */
#include <errno.h>
#include <string.h>

#include "drivers/nbd/nbd.h"
#include "zonedev/log.h"

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

void zd_nbd_trim_done(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, bool ok)
{
	if (ok) {
		zd_nbd_count(&nbd->stats.trimmed, cmd->nr);
	} else if (cmd->error && cmd->error != -ESHUTDOWN) {
		zd_warn_once("%s: the server can't trim: %s", nbd->name,
			     strerrordesc_np(-cmd->error));
		nbd->export.trim = false;
	}
	zd_pool_return_idle(&nbd->pool, cmd->index, cmd->nr);
	nbd->nr_trims--;
	cds_list_add(&cmd->node, &nbd->free_cmds);
}
