/* SPDX-License-Identifier: MIT */
/* The end of an address space: all that refers to it lets go, then it is freed. */
#include <errno.h>

#include "base/bug.h"
#include "engine/backlog.h"
#include "engine/changes.h"
#include "engine/entries.h"
#include "engine/exit.h"
#include "engine/out.h"
#include "engine/ram_page.h"

/* The server's thread, between two turns; ->destroy of the mover may wait for it. */
void zd_mm_destroy(struct zd_mm *mm)
{
	struct zd_server *server = mm->server;
	struct zd_mig *mig = mm->out;

	mm->dead = true;	/* no page is put in place any more */
	if (mm->unborn)
		zd_changes_forget_child(mm);
	zd_mm_end_log(mm);
	while (mm->ranges.nr)
		zd_mm_forget(mm, mm->ranges.v[0].start, mm->ranges.v[0].end);
	if (mig) {
		/* the mover won't answer any more: land the batch that it had */
		mm->out = NULL;
		mig->mm = NULL;
		for (unsigned int i = 0; i < mig->nr; i++)
			if (mig->page[i].error == -EINPROGRESS)
				mig->page[i].error = -ECANCELED;
		zd_out_moved(mig);
	}
	zd_migs_forget_mm(mm);
	if (mm->mover)
		mm->mover->destroy(mm);
	ZD_BUG_ON(mm->nr_device, "mm slot %u dies with %llu device pages", mm->slot,
		  (unsigned long long)mm->nr_device);
	for (unsigned int i = 0; i < ZD_TIERS_MAX; i++)
		ZD_BUG_ON(mm->on_tier[i], "mm slot %u dies with %lld pages of tier slot %u",
			  mm->slot, (long long)mm->on_tier[i], i);
	zd_backlog_forget(&server->backlog, mm);
	if (server->last_fault == mm)
		server->last_fault = NULL;
	zd_ram_pages_destroy(mm);
	zd_mm_free(mm);
}
