/* SPDX-License-Identifier: MIT */
/* serve/region.h - the region that this server serves, in the units of NBD: bytes. */
#ifndef ZD_SERVE_REGION_H
#define ZD_SERVE_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zonedev/pmem.h>

/* @path: absolute, or memfd:NAME.  @attr: without ZD_PMEM_CREATE, which region_open() adds where
 * the region isn't read-only. */
struct region_config {
	const char *path;
	struct zd_pmem_attr attr;
};

/* region_open - 0, or -errno and a line for the user in @err.  @config stays the caller's,
 * and must stay.  The library starts threads: not before a fork. */
int region_open(const struct region_config *config, char *err, size_t errlen);

/* region_close - no request may be running. */
void region_close(void);

/* What the region is, whether clients may write, and how many bytes they see: constant while
 * it is open.  Any thread. */
const struct zd_pmem_info *region_info(void);
bool region_is_readonly(void);
uint64_t region_bytes(void);

/* Are new clients welcome?  Not while the region is away or going.  Any thread. */
bool region_is_live(void);

/*
 * region_rw - a request of any alignment.  @op, @flags: as zd_pmem_rw() has them;
 * @buf: of READ, WRITE.  Any thread; blocks as long as the media takes.
 *
 * A READ or WRITE of less than whole sectors costs a copy, and such a WRITE excludes other
 * writes of the same sectors meanwhile; a DISCARD shrinks to whole sectors, a WRITE_ZEROES
 * fails with -EOPNOTSUPP.  A request waits for its own sync (FLUSH, or FUA), and never for the
 * sync of another, with one exception: a WRITE of less than whole sectors waits for one of
 * whole sectors that has FUA and is in the same sectors.
 * 0, or -errno as zd_pmem_rw(), but -ESHUTDOWN where the region is away.
 */
int region_rw(enum zd_pmem_op op, unsigned int flags, uint64_t offset, uint32_t count, void *buf);

/* region_extent - zd_pmem_extent() in bytes; @offset a multiple of 512.  Any thread. */
int64_t region_extent(uint64_t offset, uint64_t count, unsigned int *flags);

/* --- away and back: the control thread only --- */

enum region_state { REGION_LIVE, REGION_REMOVING, REGION_REMOVED };

enum region_state region_state(void);

/*
 * region_remove - begin to take the region away, or go on.  Waits @ms at most.
 * 0: done; -EIO: done, and something that was written isn't durable; -ETIMEDOUT: not yet, and
 * @holders says what the removal waits for; -ENODEV: the region is away.
 */
int region_remove(unsigned int ms, struct zd_pmem_holders *holders);

/* region_add - open the region again.  0, or -errno and a line for the user in @err. */
int region_add(char *err, size_t errlen);

#endif
