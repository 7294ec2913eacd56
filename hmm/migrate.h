/* SPDX-License-Identifier: MIT */
/* What the two ways to migrate (migrate.c, migrate_vma.c) share. */
#ifndef ZD_HMM_MIGRATE_H
#define ZD_HMM_MIGRATE_H

#include "hmm/hmm.h"

/*
 * The next pages of [*from, end) to try, in address order: resident and not
 * locked; at most ZD_MIG_MAX.  A huge page is a batch of its own, so that it
 * moves whole (*whole); a batch ends where another kind begins.  Those of @stay are
 * counted (protection).  When there are none *from is where to look next.
 */
unsigned int zd_migrate_collect(struct zd_hmm *hmm, uint64_t *from, uint64_t end,
				const struct zd_ranges *stay, struct zd_migrate_result *result,
				uint64_t *addrs, bool *whole);

/* What of [start, end) must not go to @dev, into @stay (zeroed); as zd_malloc_arenas(). */
int zd_migrate_stay(uint64_t start, uint64_t end, const struct zd_device *dev,
		    struct zd_ranges *stay);

/* Count how the page of a landed batch ended. */
void zd_migrate_count(struct zd_migrate_result *r, const struct zd_mig_page *p);

/* Pages of [start, end), managed, that are on the device. */
uint64_t zd_migrate_on_device(const struct zd_mm *mm, uint64_t start, uint64_t end);

/* Of @nr pages those that are counted nowhere yet were not there to be collected. */
void zd_migrate_count_rest(struct zd_migrate_result *r, uint64_t nr);

/* The process exits: pages between setup and finalize go back where they were. */
void zd_migrate_vma_abandon(struct zd_hmm *hmm);

#endif
