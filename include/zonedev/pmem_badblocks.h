/* SPDX-License-Identifier: MIT */
/*
 * zonedev/pmem_badblocks.h - the sectors of a region of persistent memory that have failed.
 *
 * zonedev/pmem.h opens regions, and says what is durable when, what becomes of media that
 * fail, and what "parent only" means here.
 */
#ifndef ZONEDEV_PMEM_BADBLOCKS_H
#define ZONEDEV_PMEM_BADBLOCKS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_pmem;

/*
 * The list of media sectors that failed; without BTT these are the sectors of
 * requests.  Mirrors badblocks_check() and friends.
 *
 * check: 0: none of them is bad; 1: @first_bad and @nr_bad (each may be NULL)
 * tell the first bad run within the range.
 * set: add; clear: remove, in the stored list as well (the log tells where that can't be
 * stored).  0 or -ENOMEM; -ENODEV: removed.
 * -EINVAL: not in the region.  After a removal the list is empty.
 * Context: check: any thread; set, clear: may block; parent only.
 */
int zd_pmem_badblocks_check(struct zd_pmem *pmem, uint64_t sector, uint64_t nr, uint64_t *first_bad,
			    uint64_t *nr_bad);
int zd_pmem_badblocks_set(struct zd_pmem *pmem, uint64_t sector, uint64_t nr);
int zd_pmem_badblocks_clear(struct zd_pmem *pmem, uint64_t sector, uint64_t nr);

/*
 * zd_pmem_inject_poison - for tests: the pages of media sectors [sector, sector +
 * nr) raise a real SIGBUS in the region's own mapping from now on, until a
 * request writes a whole sector of such a page (which heals the page; its other
 * sectors stay bad until they are written).  The pages join the list of bad blocks
 * when they are touched.  0; -EINVAL; -ENODEV; -ENOMEM.
 * Context: may block, parent only.
 */
int zd_pmem_inject_poison(struct zd_pmem *pmem, uint64_t sector, uint64_t nr);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
