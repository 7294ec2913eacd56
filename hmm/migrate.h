/* SPDX-License-Identifier: MIT */
/* What the two ways to migrate (migrate.c, migrate_vma.c) share.  The server's thread, where
 * nothing else is said. */
#ifndef ZD_HMM_MIGRATE_H
#define ZD_HMM_MIGRATE_H

#include "hmm/hmm.h"

/*
 * migrate_collect.c: the next pages of [*from, end) to try, into @addrs, in address order:
 * resident, not locked and not in @stay; at most ZD_MIG_MAX.  A huge page is a batch of its
 * own, so that it moves whole (*whole); a batch ends where one begins.  Pages that may not be
 * taken end a batch, and those before its first page are counted in @result.  Returns how
 * many there are; if 0, *from is where to look next.
 */
unsigned int zd_migrate_collect(struct zd_hmm *hmm, uint64_t *from, uint64_t end,
				const struct zd_ranges *stay, struct zd_migrate_result *result,
				uint64_t *addrs, bool *whole);

/* migrate_count.c: count how the page of a landed batch ended. */
void zd_migrate_count(struct zd_migrate_result *r, const struct zd_mig_page *p);

/* Of @nr pages those that are counted nowhere yet are absent: they were not there to be
 * collected.  Any thread. */
void zd_migrate_count_rest(struct zd_migrate_result *r, uint64_t nr);

/* How many entries of [start, end), in managed ranges, are in @state. */
uint64_t zd_migrate_count_entries(const struct zd_mm *mm, uint64_t start, uint64_t end,
				  enum zd_entry_state state);
/* How many are of @dev. */
uint64_t zd_migrate_count_on(const struct zd_mm *mm, uint64_t start, uint64_t end,
			     const struct zd_device *dev);

/* migrate_between.c: pages of [pos, end) that are on other devices go to @dev, which is attached,
 * but for those in @stay; step until DONE. */
struct zd_migrate_between {
	uint64_t pos, end;
	struct zd_device *dev;
	const struct zd_ranges *stay;
	struct zd_migrate_result *result;
	bool in_flight;		/* a batch is */
};
enum zd_cmd_result zd_migrate_between_step(struct zd_hmm *hmm, struct zd_migrate_between *b);

/* migrate_vma_steps.c: the process exits; pages between setup and finalize go back where they
 * were. */
void zd_migrate_vma_abandon(struct zd_hmm *hmm);

#endif
