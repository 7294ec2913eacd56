/* SPDX-License-Identifier: MIT */
/* The region that this server serves, in the units of NBD: bytes. */
#ifndef ZD_SERVE_REGION_H
#define ZD_SERVE_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zonedev/pmem.h>

/* @path: absolute, or memfd:NAME.  @attr: without ZD_PMEM_CREATE, which is a matter of its being
 * read-only. */
struct region_config {
	const char *path;
	struct zd_pmem_attr attr;
};

/* region_open - 0, or -errno and a line for the user.  @config stays the caller's
 * and must stay.  Threads may be started: not before a fork. */
int region_open(const struct region_config *config, char *err, size_t errlen);

/* region_close - no request may be running. */
void region_close(void);

/* What it is; constant.  Bytes that clients see. */
const struct zd_pmem_info *region_info(void);
uint64_t region_bytes(void);

/* Are new clients welcome?  Not while it is away. */
bool region_is_live(void);

/*
 * region_rw - a request of any alignment.  @op, @flags: as zd_pmem_rw() has them;
 * @buf: of READ, WRITE.  Threads may call it at the same time.
 *
 * What isn't whole sectors costs a copy, and a write excludes other writes of the
 * same sectors meanwhile; a DISCARD shrinks to whole sectors, a WRITE_ZEROES fails
 * with -EOPNOTSUPP.  No request waits for the sync of another, but a write that
 * isn't whole sectors for one that has FUA and is in the same sectors, and one
 * that must be durable for the disk.
 * 0, or -errno as zd_pmem_rw(), but -ESHUTDOWN where the region is away.
 */
int region_rw(enum zd_pmem_op op, unsigned int flags, uint64_t offset, uint32_t count,
	      void *buf);

/* region_extent - zd_pmem_extent() in bytes; @offset a multiple of 512. */
int64_t region_extent(uint64_t offset, uint64_t count, unsigned int *flags);

/* --- away and back: the control thread only --- */

enum region_state { REGION_LIVE, REGION_REMOVING, REGION_REMOVED };

enum region_state region_state(void);

/*
 * region_remove - begin to take it away, or go on.  Waits @ms at most.
 * 0: done; -EIO: done, and something that was written isn't durable; -ETIMEDOUT: @holders
 * says for whom it waits; -ENODEV: it is away.
 */
int region_remove(unsigned int ms, struct zd_pmem_holders *holders);

/* region_add - open it again.  0, or -errno and a line for the user. */
int region_add(char *err, size_t errlen);

#endif
