/* SPDX-License-Identifier: MIT */
/*
 * zonedev/p2pdma.h - memory of a device for other devices: struct pci_p2pdma in
 * user space.
 *
 * A provider publishes a stretch of memory that the CPU can address (part of a
 * pmem or device-dax region, a memfd, a driver's own mapping of a file): P2PDMA
 * pages.  Clients allocate from it, map it for the program, hold its pages
 * (zonedev/gup.h), hand them on, and let go.  Each page counts by itself: its last put,
 * by whichever client, gives it back to the provider's pool.  No client has to outlive
 * another, or to come and free what another has lent on.
 *
 * Data goes between such pages and a device (zonedev/device.h) straight: the
 * provider's memory is the buffer of the device's own transfer.  Where a device
 * can't do that, the data takes a detour by ordinary memory, and the caller is
 * told how much of it did: zd_p2pdma_distance() beforehand, struct
 * zd_p2pdma_result and zd_p2pdma_get_stats() afterwards.
 *
 * Removal waits for the holders of pages, and names the pages.
 *
 * After fork: as zonedev/dax.h says.  "Parent only": in a child the calls that can fail do, with -EINVAL.
 */
#ifndef ZONEDEV_P2PDMA_H
#define ZONEDEV_P2PDMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zonedev/dax.h>
#include <zonedev/device.h>
#include <zonedev/devm.h>
#include <zonedev/page.h>
#include <zonedev/pagemap.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_p2pdma;

/* --- providers --- */

/*
 * struct zd_p2pdma_resource - what is published.
 *
 * @size: sizeof(struct zd_p2pdma_resource).
 * @fd, @offset, @length: the memory, a stretch of something that can be mapped
 *	shared; multiples of 4096.  @fd is duplicated.
 * @addr: where the driver has the stretch mapped already, which stays so until
 *	@release; NULL: it is mapped here.
 * @release: called when no page is held any more and the memory is no longer published,
 *	in the thread that removes the provider.  May be NULL.  @data: for @release.
 */
struct zd_p2pdma_resource {
	size_t size;
	int fd;
	uint64_t offset;
	uint64_t length;
	void *addr;
	void (*release)(void *data);
	void *data;
};

/*
 * zd_p2pdma_add_resource - publish @res.  @provider: result, ended by
 * zd_p2pdma_remove().
 * Returns 0; -EINVAL: bad numbers; -EBADF, -EACCES: the descriptor isn't open for
 * reading and writing; -ENODEV: can't be mapped; -ENOSPC: no pfns left; -ENOMEM.  After an
 * error @release isn't called.  Mirrors Linux pci_p2pdma_add_resource().
 * Context: may block, fork-safe.
 */
int zd_p2pdma_add_resource(const struct zd_p2pdma_resource *res, struct zd_p2pdma **provider);

/*
 * zd_p2pdma_add_dax - publish part of a region: bytes [offset, offset + length), multiples
 * of 4096.  The pages are described twice then, by the region and by the provider; the
 * caller sees to it that nothing else uses that part of the region.  The region
 * can't go before the provider: its removal waits (struct zd_pagemap_holders.nr_refs).
 * -ENODEV: the region is being removed; -EACCES: it is read-only; else as above.
 * Context: may block, parent only.
 */
int zd_p2pdma_add_dax(struct zd_dax *dax, uint64_t offset, uint64_t length,
		      struct zd_p2pdma **provider);

/* zd_devm_p2pdma_add_resource - the same as zd_p2pdma_add_resource(), removed by
 * zd_devm_release_all(@devm), in the steps of zd_p2pdma_remove(), an action each. */
int zd_devm_p2pdma_add_resource(struct zd_devm *devm, const struct zd_p2pdma_resource *res,
				struct zd_p2pdma **provider);

/*
 * zd_p2pdma_remove - take the provider's memory back:
 *
 *	kill		allocating fails with -ENODEV
 *	revoke		mappings for the program raise SIGBUS; they let go of their pages
 *	wait		for allocations that aren't freed, and other holders of pages
 *	exit		the pages have no descriptors any more
 *	release		->release
 *
 * Returns 0: @provider is gone; -EINVAL: NULL, or a forked child; -EBUSY: another
 * thread is removing it; -EDEADLK: from inside a page_free.  Blocks until no page is held.
 *
 * The timed form waits at most @ms milliseconds for holders; -ETIMEDOUT: @out (may be
 * NULL) says which pages are held.  Call either form again to go on.
 * Context: may block, parent only.
 */
int zd_p2pdma_remove(struct zd_p2pdma *provider);
int zd_p2pdma_remove_timeout_sized(struct zd_p2pdma *provider, unsigned int ms,
				   struct zd_pagemap_holders *out, size_t size);

static inline int zd_p2pdma_remove_timeout(struct zd_p2pdma *provider, unsigned int ms,
					   struct zd_pagemap_holders *out)
{
	return zd_p2pdma_remove_timeout_sized(provider, ms, out, sizeof(*out));
}

/* zd_p2pdma_size, zd_p2pdma_available - bytes in all, and not allocated (a snapshot).
 * Context: any thread, parent only. */
uint64_t zd_p2pdma_size(const struct zd_p2pdma *provider);
uint64_t zd_p2pdma_available(struct zd_p2pdma *provider);

/* zd_p2pdma_pagemap - its pagemap.  Constant.  Context: signal-safe, parent only. */
const struct zd_pagemap *zd_p2pdma_pagemap(const struct zd_p2pdma *provider);

/* --- memory --- */

/*
 * zd_alloc_p2pmem - take @size bytes, rounded up to pages, consecutive.
 *
 * @mem: result: the first byte, in the provider's own mapping.  Each page is live, and
 * its one reference is the caller's.  The memory holds what its last user left there.
 * Returns 0; -ENOMEM: no such piece is free; -ENODEV: being removed; -EINVAL.
 * Mirrors pci_alloc_p2pmem().
 *
 * zd_free_p2pmem - drop those references.  A page on which there are other references
 * stays allocated until the last of them is put; the rest is back in the pool.  (Linux
 * frees at once.)
 * Context of both: any thread, parent only.
 */
int zd_alloc_p2pmem(struct zd_p2pdma *provider, size_t size, void **mem);
void zd_free_p2pmem(struct zd_p2pdma *provider, void *mem, size_t size);

/* zd_p2pmem_page - the page at @mem, an address that zd_alloc_p2pmem() gave, or in between; NULL: not of
 * this provider.  (zd_page_address() is the way back.)  Context: any thread, parent only. */
struct zd_page *zd_p2pmem_page(const struct zd_p2pdma *provider, const void *mem);

/*
 * zd_p2pdma_mmap - map @size bytes from @mem on for the program; the caller holds these
 * pages, and the mapping holds them, too, from now on.
 * @mm, @prot, @flags, and what is returned: as zd_dax_mmap(); -EINVAL: not pages of this
 * provider that are allocated, or not page-aligned.  Ended by zd_dax_munmap().
 * Context: may block, parent only.
 */
int zd_p2pdma_mmap(struct zd_p2pdma *provider, struct zd_mm *mm, void *mem, size_t size, int prot,
		   unsigned int flags, struct zd_dax_mapping **map);

/* --- transfers --- */

/*
 * zd_p2pdma_distance - how far these devices are from the provider's memory: the sum of
 * what each says (0: loads and stores; 1: its own transfers reach it), or -1: at least
 * one can't reach it, and its transfers take a detour by ordinary memory.
 * @verbose: say in the log which, and why.
 * Mirrors pci_p2pdma_distance_many().
 * Context: any thread, parent only.
 */
int zd_p2pdma_distance(struct zd_p2pdma *provider, struct zd_device *const *clients, int nr,
		       bool verbose);

/*
 * struct zd_p2pdma_sg - a run of pages as a device's transfer sees it.
 *
 * @page: the first of @nr_pages whose descriptors follow each other, all held: P2PDMA,
 * GENERIC, FS_DAX, or RAM of a managed range.  @addr: set by zd_p2pdma_map_sg(): the
 * buffer to give the device: the memory itself, or if @bounced, ordinary memory in its stead.
 * Its size is fixed for ever: lists are arrays of it.
 */
struct zd_p2pdma_sg {
	struct zd_page *page;
	unsigned int nr_pages;
	bool bounced;
	void *addr;
};

/*
 * zd_p2pdma_map_sg - make pages buffers of a transfer of @client, for drivers, and for
 * programs that call ->submit themselves.  @dir: ZD_TO_DEVICE: the device reads them.
 * 0; -EINVAL: a page that has no address, or @dir is neither; -ENOMEM; -EIO: a detour's
 * copy hit bad or truncated memory.  On failure nothing is mapped.
 *
 * zd_p2pdma_unmap_sg - the transfer is over.  With ZD_FROM_DEVICE, what took a detour is
 * copied where it belongs: 0, or -EIO.
 *
 * They mirror pci_p2pdma_map_sg(), which fails where these take a detour.
 * Context: may block, parent only.
 */
int zd_p2pdma_map_sg(struct zd_device *client, struct zd_p2pdma_sg *sg, unsigned int nents,
		     enum zd_io_dir dir);
int zd_p2pdma_unmap_sg(struct zd_device *client, struct zd_p2pdma_sg *sg, unsigned int nents,
		       enum zd_io_dir dir);

/* struct zd_p2pdma_result - what became of a copy, in pages.  Their sum is what was
 * asked for.  Grows at the end: see zonedev.h, "Binary interface". */
struct zd_p2pdma_result {
	uint64_t direct;	/* in one transfer */
	uint64_t bounced;	/* by way of ordinary memory */
	uint64_t failed;	/* not copied, or half */
};

/*
 * zd_p2pdma_copy - copy page by page, @src[i] to @dst[i], by the CPU or the devices.
 *
 * Each page, held by the caller, is CPU-addressable (of a provider, a region, or RAM of a
 * managed range) or a page of a struct zd_device.  Between two devices there is no way
 * but by ordinary memory.  @result may be NULL.
 *
 * A device that a zd_mm migrates to is driven by the zd_mm's server; any other device
 * by the calling thread, one copy at a time: the program may not use its ->submit meanwhile.
 *
 * Returns 0, or the first error: -EINVAL: a page of neither kind; -EIO: truncated, or
 * what the device says; -ENOMEM.  The other pages are copied all the same.
 * Context: may block, parent only; not from a driver's callback.
 */
int zd_p2pdma_copy_sized(struct zd_page *const *dst, struct zd_page *const *src, unsigned long nr,
			 struct zd_p2pdma_result *result, size_t size);

static inline int zd_p2pdma_copy(struct zd_page *const *dst, struct zd_page *const *src,
				 unsigned long nr, struct zd_p2pdma_result *result)
{
	return zd_p2pdma_copy_sized(dst, src, nr, result, sizeof(*result));
}

/* struct zd_p2pdma_stats - bytes since the process began, by zd_p2pdma_copy() and
 * zd_p2pdma_map_sg().  Grows at the end: see zonedev.h, "Binary interface". */
struct zd_p2pdma_stats {
	uint64_t direct;
	uint64_t bounced;
};

/* zd_p2pdma_get_stats - 0.
 * Context: signal-safe, fork-safe. */
int zd_p2pdma_get_stats_sized(struct zd_p2pdma_stats *stats, size_t size);

static inline int zd_p2pdma_get_stats(struct zd_p2pdma_stats *stats)
{
	return zd_p2pdma_get_stats_sized(stats, sizeof(*stats));
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
