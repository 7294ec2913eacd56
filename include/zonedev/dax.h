/* SPDX-License-Identifier: MIT */
/*
 * zonedev/dax.h - device-dax: memory of a device, mapped as it is.
 *
 * A region is a stretch of a file, a memfd or a device-dax node whose pages have
 * descriptors: a GENERIC pagemap.  Programs map it and use it at the speed of
 * memory; no userfaultfd, no migration, nothing of zonedev is in the way of a
 * load or a store.  Its pages can be held (zonedev/gup.h), and the region can be
 * taken away from its users while they use it:
 *
 *	revoke		each mapping is replaced, at one stroke, by one that raises
 *			SIGBUS wherever it is touched.  The addresses stay taken
 *			until zd_dax_munmap(), so no other memory can appear
 *			there; data of the region is never seen there again.
 *	holders		removal waits for the holders of pages, and names the pages.
 *			Holders go on using what they hold: see zd_page_address().
 *
 * A page gets its count when it is first asked for; so opening, mapping and
 * closing 1 TiB cost the same as 1 MiB.
 *
 * SIGBUS.  An access to a mapping raises it when the mapping was revoked, when the
 * file has been truncated, or when the medium can't be read.  zd_dax_read(),
 * zd_dax_write() and zd_dax_access_guard() make it a result.  The three need zonedev's
 * handler, which opening a region installs for the process, and which hands signals that
 * aren't its own to the handler that was there.  A program that sets its own handler later
 * must do the same.  A thread that calls one of the three gets SIGBUS unblocked, once and
 * for good: it must not block the signal again.
 *
 * After fork.  A child has the mappings (unless ZD_DAX_DONTFORK), and they are
 * good memory: what the child writes, its parent reads.  But they are the child's own from
 * then on: the parent's revoking and removing end the parent's mappings, not the
 * child's, which see the file until the child unmaps them or ends.  The handles
 * are the parent's: the child must not use them.  Calls that take the region or end
 * a mapping fail with -EINVAL in the child; zd_dax_read(), zd_dax_write() and
 * zd_dax_access_guard() touch the child's memory, whatever is mapped there by then.
 *
 * How this differs from Linux's device-dax: there the kernel revokes the mappings
 * of every process; here those of the process that opened the region.
 */
#ifndef ZONEDEV_DAX_H
#define ZONEDEV_DAX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zonedev/devm.h>
#include <zonedev/mm.h>
#include <zonedev/page.h>
#include <zonedev/pagemap.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_dax;
struct zd_dax_mapping;

#define ZD_DAX_RDONLY		(1u << 0)	/* no mapping for writing: -EACCES */

/*
 * struct zd_dax_opts - how to open; zero is a good default for each.
 *
 * @size: sizeof(struct zd_dax_opts).
 * @flags: ZD_DAX_RDONLY.
 * @offset, @length: the stretch, in bytes; @offset a multiple of @align, @length
 *	0: up to the end, rounded down to a multiple of @align.
 * @align: of addresses, offsets and lengths of mappings: a power of two from 4096
 *	to 1 GiB; 0: what the device asks for, or 4096.  With 2 MiB the kernel is asked for
 *	huge pages, where what is below has them.  With less, mappings of 2 MiB and more
 *	lie so that it can use them all the same.
 */
struct zd_dax_opts {
	size_t size;
	unsigned int flags;
	uint64_t offset;
	uint64_t length;
	uint64_t align;
};

/*
 * zd_dax_open - open a region.
 *
 * @path: a regular file, or a device-dax node.  @opts: may be NULL.  @dax: result,
 * ended by zd_dax_close().
 * Returns 0; -EINVAL: bad options, an empty stretch, or one that goes beyond the
 * end; -ENODEV: neither a file nor device-dax; -ENOSPC: no pfns left; -ENOMEM;
 * -EACCES, -ENOENT, -EMFILE...: as the system says.
 *
 * zd_dax_open_fd - the same on a descriptor (of a memfd, say), which is
 * duplicated.
 *
 * Another process may truncate the file: then accesses raise SIGBUS.
 * To exclude that, give a memfd sealed with F_SEAL_SHRINK.
 * Context: may block, fork-safe.
 */
int zd_dax_open(const char *path, const struct zd_dax_opts *opts, struct zd_dax **dax);
int zd_dax_open_fd(int fd, const struct zd_dax_opts *opts, struct zd_dax **dax);

/*
 * zd_devm_dax_open - the same, taken down by zd_devm_release_all(@devm), in these
 * actions, one a step:
 *
 *	kill		new references and mappings fail with -ENODEV
 *	revoke		mappings raise SIGBUS; their references are put
 *	wait		for the holders of pages
 *	exit		the pagemap and the region's own mapping go
 *
 * zd_dax_close() takes the same steps, and may be called before @devm is released.
 * Context: may block, fork-safe.
 */
int zd_devm_dax_open(struct zd_devm *devm, const char *path, const struct zd_dax_opts *opts,
		     struct zd_dax **dax);

/*
 * zd_dax_close - take the region away: the steps above.  Mappings that are still
 * there are revoked, and remain the caller's to zd_dax_munmap().
 *
 * Returns 0: @dax is gone; -EINVAL: NULL, or from a forked child; -EBUSY: another
 * thread is closing it; -EDEADLK: from inside a page_free.  Blocks until no page is held.
 *
 * zd_dax_close_timeout - the same, waiting at most @ms milliseconds for holders.
 * -ETIMEDOUT: @out (may be NULL) says which pages are held; the mappings are revoked, new
 * references fail.  Call either form again to go on.
 * Context: may block, parent only (-EINVAL); not with one of its pages held, not from a
 * guarded function.
 */
int zd_dax_close(struct zd_dax *dax);
int zd_dax_close_timeout_sized(struct zd_dax *dax, unsigned int ms, struct zd_pagemap_holders *out,
			       size_t size);

static inline int zd_dax_close_timeout(struct zd_dax *dax, unsigned int ms,
				       struct zd_pagemap_holders *out)
{
	return zd_dax_close_timeout_sized(dax, ms, out, sizeof(*out));
}

/* zd_dax_size, zd_dax_align - bytes; and the alignment of mappings.  Constant.
 * Context: signal-safe, parent only. */
uint64_t zd_dax_size(const struct zd_dax *dax);
uint64_t zd_dax_align(const struct zd_dax *dax);

/* zd_dax_pagemap - its pagemap: page i of the region is pfn + i.
 * Context: signal-safe, parent only. */
const struct zd_pagemap *zd_dax_pagemap(const struct zd_dax *dax);

/*
 * zd_dax_direct_access - hold pages of the region without mapping them.
 *
 * @pgoff: the first, in pages.  @kaddr, @pfn (each may be NULL): its address in the
 * region's own mapping, and its pfn; the others follow both.
 * The pages are held, one reference each: put them with zd_put_page().
 * Returns how many, > 0, fewer than @nr_pages at the end of the region; -ERANGE:
 * beyond it; -EINVAL; -ENODEV: being removed.
 * Mirrors Linux dax_direct_access(), which holds nothing.
 * Context: any thread, parent only (-EINVAL); waits for a page whose last holder is just
 * letting go, and in a region of zonedev/pmem.h for a page that is being punched out.
 */
long zd_dax_direct_access(struct zd_dax *dax, uint64_t pgoff, long nr_pages, void **kaddr,
			  zd_pfn_t *pfn);

/* --- mappings --- */

#define ZD_DAX_POPULATE		(1u << 0)	/* no faults later: all pages now */
#define ZD_DAX_DONTFORK		(1u << 1)	/* forked children don't have it */

/*
 * zd_dax_mmap - map part of the region into the program.
 *
 * @mm: may be NULL; else GUP on @mm gives the region's pages for addresses of this
 * mapping (long-term pins, too, but for FS_DAX regions; for writing only where
 * @prot has it).  @addr: where, if the place is free; NULL: anywhere.
 * @offset, @length: bytes of the region, multiples of its alignment.  @prot:
 * PROT_READ, with PROT_WRITE or without.  @flags: ZD_DAX_*.
 * @map: result, ended by zd_dax_munmap().
 *
 * With ZD_DAX_POPULATE every page is there when it returns, and an access costs
 * what memory costs.  (Pages of a file in the page cache may still fault, briefly,
 * when the kernel has written them back; those of memfds, DAX and device-dax
 * don't.)
 *
 * The address range is zonedev's: don't munmap(), mremap() or map over it.
 * mprotect() to less and madvise() are fine; GUP goes by @prot, not by what mprotect()
 * has left of it.
 *
 * Returns 0; -EINVAL: bad arguments, or from a forked child; -EACCES: for writing,
 * and the region is read-only; -ENODEV: being removed; -EIO: can't be populated
 * (truncated); -ENOMEM.
 * Context: may block, parent only (-EINVAL).
 */
int zd_dax_mmap(struct zd_dax *dax, struct zd_mm *mm, void *addr, uint64_t offset, uint64_t length,
		int prot, unsigned int flags, struct zd_dax_mapping **map);

/*
 * zd_dax_munmap - end a mapping, also a revoked one.  Its pages that are held stay held.
 * 0; -EINVAL: NULL, or from a forked child.
 * Context: may block, parent only (-EINVAL); no other call on @map may be running.
 */
int zd_dax_munmap(struct zd_dax_mapping *map);

/* zd_dax_mapping_addr, zd_dax_mapping_len - where the mapping is; how long.  Constant.
 * Context: signal-safe, parent only. */
void *zd_dax_mapping_addr(const struct zd_dax_mapping *map);
uint64_t zd_dax_mapping_len(const struct zd_dax_mapping *map);

/*
 * zd_dax_revoke - end every mapping that there is now: a thread that touches one gets SIGBUS,
 * GUP on it returns -EFAULT, and so does a system call that is given such an address.  The
 * region stays, and can be mapped anew.  Held pages stay held.
 * 0; -EINVAL: NULL, or from a forked child.
 * Context: may block, parent only (-EINVAL).
 */
int zd_dax_revoke(struct zd_dax *dax);

/* zd_dax_mapping_revoked - was @map revoked?  Context: signal-safe, parent only. */
bool zd_dax_mapping_revoked(const struct zd_dax_mapping *map);

/*
 * zd_dax_access_guard - call @fn(@ctx), which touches the mapping, and survive a fault there.
 *
 * When the mapping is revoked meanwhile, or can't be read, @fn is left at that
 * very access, as by siglongjmp(): it must not hold a lock or own memory while it
 * touches the mapping.  Faults elsewhere are as ever.  Nests.
 *
 * @fn may also leave by longjmp() or siglongjmp(), by a C++ exception, pthread_exit() or
 * cancellation, and so may a signal handler that interrupts @fn: the guard ends then.
 * @fn must not switch to another stack (swapcontext()) and leave the guard behind there, nor
 * use __builtin_longjmp().
 *
 * Returns what @fn returned, or -ENODEV: revoked; -EIO: truncated, or the medium
 * failed; -EINVAL.
 * Context: any thread, for itself, with SIGBUS not blocked; in a child see above.
 */
int zd_dax_access_guard(struct zd_dax_mapping *map, int (*fn)(void *ctx), void *ctx);

/*
 * zd_dax_read / zd_dax_write - copy between the mapping, from byte @offset of it
 * on, and @buf.  0; -EINVAL: beyond its end; -EACCES: not mapped for writing;
 * -ENODEV, -EIO as above: a part was copied.  -EFAULT: @buf, not the mapping, raised SIGBUS.
 * Context: may block (on a fault), with SIGBUS not blocked; in a child see above.
 */
int zd_dax_read(struct zd_dax_mapping *map, uint64_t offset, void *buf, size_t len);
int zd_dax_write(struct zd_dax_mapping *map, uint64_t offset, const void *buf, size_t len);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
