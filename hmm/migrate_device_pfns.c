/* SPDX-License-Identifier: MIT */
/* zd_migrate_device_pfns(): which device pages a range has.  The step runs in the server's
 * thread, the call in the caller's, which blocks. */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "hmm/hmm.h"
#include "hmm/span.h"

struct pfns_cmd {
	struct zd_cmd cmd;
	uint64_t start, end;
	zd_pfn_t pfn[];
};

static enum zd_cmd_result pfns_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct pfns_cmd *c = caa_container_of(cmd, struct pfns_cmd, cmd);
	size_t i = 0;

	if (!zd_is_managed(hmm->mm, c->start, c->end)) {
		cmd->rc = -EINVAL;
		return ZD_CMD_DONE;
	}
	for (uint64_t a = c->start; a < c->end; a += ZD_PAGE_SIZE, i++) {
		zd_entry_t e = *zd_mm_entry(hmm->mm, a);

		if (zd_entry_state(e) == ZD_ENTRY_DEVICE)
			c->pfn[i] = zd_entry_val(e);
	}
	return ZD_CMD_DONE;
}

int zd_migrate_device_pfns(struct zd_mm *mm, const void *addr, size_t len, zd_pfn_t *pfns,
			   size_t nr)
{
	struct pfns_cmd *c;
	uint64_t start, end;
	int rc;

	if (!mm || !pfns)
		return -EINVAL;
	rc = zd_whole_pages(addr, len, &start, &end);
	if (rc || nr != (end - start) / ZD_PAGE_SIZE)
		return -EINVAL;
	c = zd_alloc(sizeof(*c) + nr * sizeof(c->pfn[0]));
	if (!c)
		return -ENOMEM;
	c->cmd.step = pfns_step;
	c->start = start;
	c->end = end;
	rc = zd_hmm_call(zd_hmm_of(mm), &c->cmd);
	if (!rc)
		memcpy(pfns, c->pfn, nr * sizeof(c->pfn[0]));
	zd_free(c);
	return rc;
}
