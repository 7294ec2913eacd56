/* SPDX-License-Identifier: MIT */
/*
 * zonedev/pmem_access.h - a region of persistent memory by address: loads and stores.
 *
 * zonedev/pmem.h opens regions, and says what is durable when, what becomes of media that
 * fail, and what "parent only" means here.
 */
#ifndef ZONEDEV_PMEM_ACCESS_H
#define ZONEDEV_PMEM_ACCESS_H

#include <stddef.h>
#include <stdint.h>
#include <zonedev/page.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_pmem;
struct zd_dax;

/*
 * zd_pmem_direct_access - the pages from @pgoff on, where they are mapped.
 * Mirrors Linux dax_direct_access().
 *
 * @pgoff: in pages, of the media.  @nr_pages: wanted.  @kaddr, @pfn (each may be
 * NULL): the first page's address and pfn; the others follow both.
 *
 * The pages are held: one reference each, put by zd_pmem_direct_release() or by
 * zd_put_page() page by page.  While they are held the region can't go away, and
 * their storage isn't punched out by DISCARD or WRITE_ZEROES (which zero them in
 * place).  Stores are made durable with zd_pmem_persist().
 *
 * Returns how many pages, > 0, fewer than wanted at the end of the region or
 * before a bad block; or -ERANGE: beyond the end; -EIO: @pgoff has a bad block, or
 * the file was truncated; -EOPNOTSUPP: BTT; -ENODEV; -EINVAL: @nr_pages < 1.  In a
 * read-only region the pages are mapped read-only.
 * Context: may block (while a hole is punched there; not for a frozen queue), parent only;
 * release: any thread.
 */
long zd_pmem_direct_access(struct zd_pmem *pmem, uint64_t pgoff, long nr_pages, void **kaddr,
			   zd_pfn_t *pfn);
void zd_pmem_direct_release(struct zd_pmem *pmem, zd_pfn_t pfn, long nr_pages);

/*
 * zd_pmem_persist - stores to [addr, addr + len) are durable when it returns 0; a @len of 0
 * does nothing.
 * The range lies in pages that the caller holds, at their address from
 * zd_pmem_direct_access().  CLWB and a fence on DAX, msync elsewhere.
 * -EINVAL: not in the region; -EIO: couldn't be written back, or truncated;
 * -ENODEV.
 *
 * zd_pmem_persist_range - the same by offset in the media, in bytes: for stores
 * through a mapping of zd_dax_mmap().
 *
 * Use these, and not msync(2) on an address from zd_pmem_direct_access(): the kernel tells of
 * a failed write-back once, and msync() would be told in the region's place.  Both calls work while
 * the region is being removed, for as long as it is held.
 * Context: may block, parent only.
 */
int zd_pmem_persist(struct zd_pmem *pmem, const void *addr, size_t len);
int zd_pmem_persist_range(struct zd_pmem *pmem, uint64_t offset, uint64_t len);

/*
 * zd_pmem_dax - the region for the functions of zonedev/dax.h: zd_dax_mmap() maps
 * it for the program (and for GUP, whose long-term pins it refuses: FS_DAX),
 * zd_dax_revoke() ends those mappings, zd_dax_access_guard() survives what the
 * media do.  Removal revokes them: the next access raises SIGBUS, never stale data.
 * Ended with the region, not by zd_dax_close().  NULL: BTT.  Unmap its mappings
 * before zd_pmem_close().
 * Context: any thread, parent only.
 */
struct zd_dax *zd_pmem_dax(struct zd_pmem *pmem);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
