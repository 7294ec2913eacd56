/* SPDX-License-Identifier: MIT */
/*
 * Shift: device pages go from one tier to another, and the program doesn't notice.
 *
 * Mechanism.  A batch locks the entries, as for home, and reads the contents into its buffer; from
 * there they are written to the other tier (write.h); then each entry names its new page,
 * and the old one is put.  What no tier takes, or can't be read, stays where it was.
 *
 * What happens meanwhile finds the pages as those of a batch home (mig.h): an unmap drops
 * them, an mremap moves them.  A forked child gets an entry of the old page, and keeps it: the
 * page of a child that shares it isn't moved with it.  A fault waits while a page is read; from
 * then on it is served out of the buffer, whatever becomes of the write.
 *
 * Invariants.  A locked entry is DEVICE|LOCK, of the old page, whose reference is the batch's
 * while the entry is locked.  p->from is the old page, 0 once that reference has been handed
 * on; p->pfn is the new one, as for a batch out.
 *
 * Context.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_SHIFT_H
#define ZD_ENGINE_SHIFT_H

#include "engine/mig.h"

struct zd_place {
	struct zd_mm *mm;
	uint64_t addr;
};

/*
 * @to: where to.
 * @pass_on: what it has no room for, or doesn't take, goes to the next tier below.
 * @landed: called just before the batch is freed: mig->gone pages went.
 */
struct zd_shift_want {
	struct zd_tier *to;
	bool pass_on;
	void (*landed)(struct zd_mig *mig);
	void *data;
};

/*
 * Move @nr pages, at most ZD_MIG_MAX, all DEVICE entries of one tier other than @to, not locked.
 * How many it was tried for (the first ones; their batch may have landed already), or -errno
 * and nothing happened: -ENOSPC: @to has no room; -ENODEV: it is being removed; -ENOBUFS: too
 * many shifts in flight; -ENOMEM.
 */
int zd_shift(struct zd_server *server, const struct zd_place *places, unsigned int nr,
	     const struct zd_shift_want *want);

/* A fault at @addr, whose entry is locked: the page is put in place if it is one of a shift, and
 * has been read. */
void zd_shift_fault(struct zd_mm *mm, uint64_t addr, uint64_t start_ns);

#endif
