/* SPDX-License-Identifier: MIT */
/*
 * zonedev/pmem_check.h - a region of persistent memory that no process has open, examined and
 * mended.
 *
 * zonedev/pmem.h opens regions, and says what is durable when, what becomes of media that
 * fail, and what "parent only" means here.
 */
#ifndef ZONEDEV_PMEM_CHECK_H
#define ZONEDEV_PMEM_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define ZD_PMEM_CHECK_LOOK	(1u << 0)	/* change nothing */
#define ZD_PMEM_CHECK_DATA	(1u << 1)	/* read every block, too */

/*
 * struct zd_pmem_check - what a check has found.
 *
 * @btt: there is a BTT; else the check saw only whether the file can be opened as a
 *	region.
 * @damaged: its tables were; @mended: and are right now, but for what is lost.
 * @nr_blocks, @block_bytes: of the region.
 * @nr_lost: blocks whose content is not known any more, by this damage or an earlier one:
 *	reads of them fail with -EIO until they are written.
 * @nr_bad: with ZD_PMEM_CHECK_DATA: blocks whose content can't be read, or isn't what was
 *	written: the same holds for these.
 *
 * Grows at the end: see zonedev.h, "Binary interface".
 */
struct zd_pmem_check {
	bool btt, damaged, mended;
	uint32_t block_bytes;
	uint64_t nr_blocks, nr_lost, nr_bad;
};

/*
 * zd_pmem_check - examine a region that no process has open, and mend it.
 *
 * @path: as for zd_pmem_open(), but for "memfd:".  @flags: ZD_PMEM_CHECK_*.  @say: told of
 * each finding, one line, without newline; may be NULL; @arg goes to it.  @check: result.
 *
 * A region without a BTT has nothing to mend.  The tables of a BTT tell the same several
 * times over: what is damaged is made anew from what isn't.  A block is mended only where
 * one content alone can be right; else it is lost, and the check says which.  A check that is
 * killed, or that a loss of power ends, can be made again.
 *
 * 0: examined, see @check; -errno: it can't be, as for zd_pmem_open(), with @err.  Needs
 * memory of some 50 bytes for each block of a damaged region.
 * Context: may block, fork-safe.
 */
int zd_pmem_check_sized(const char *path, unsigned int flags,
			void (*say)(void *arg, const char *line), void *arg,
			struct zd_pmem_check *check, size_t size, char *err, size_t errlen);

static inline int zd_pmem_check(const char *path, unsigned int flags,
				void (*say)(void *arg, const char *line), void *arg,
				struct zd_pmem_check *check, char *err, size_t errlen)
{
	return zd_pmem_check_sized(path, flags, say, arg, check, sizeof(*check), err, errlen);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
