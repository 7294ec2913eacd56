/* SPDX-License-Identifier: MIT */
/*
 * Mappings of a region for the program, and their revocation.
 *
 * To revoke a mapping one mmap(MAP_FIXED) puts an empty file's mapping in its
 * place, in one step for every thread: so an access finds the region or raises
 * SIGBUS, and no other mmap() can get the addresses.  Only then are the mapping's
 * pages let go: the entries that GUP reads first, references last.  So when a page
 * is free, nothing maps it.
 */
#include "drivers/dax/mapping.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "pages/pagemap.h"
#include "zonedev/log.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

#define FLAGS_ALL	(ZD_DAX_POPULATE | ZD_DAX_DONTFORK)

/* All regions' lists of mappings, as a mapping can outlive its region; and each dax->killed.  The
 * order of locks is dax.h's. */
static struct zd_mutex mappings_lock;

/* --- pages of a mapping --- */

/* zd_device_vma.hold: GUP wants the page. */
static int get_vma_page(struct zd_device_vma *vma, struct zd_page *page)
{
	struct zd_dax_mapping *mapping = caa_container_of(vma, struct zd_dax_mapping, vma);

	return zd_dax_get_page(mapping->dax, page);
}

static void put_pages(struct zd_dax_mapping *mapping, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++)
		zd_put_page(zd_dax_page(mapping->dax, mapping->offset / ZD_PAGE_SIZE + i));
}

/* Where the region's owner makes pages live, the mapping holds each page that it maps. */
static int get_pages(struct zd_dax_mapping *mapping)
{
	uint64_t nr = mapping->len / ZD_PAGE_SIZE, first = mapping->offset / ZD_PAGE_SIZE;

	if (!mapping->dax->cfg.by_owner)
		return 0;
	for (uint64_t i = 0; i < nr; i++) {
		int rc = zd_dax_get_page(mapping->dax, zd_dax_page(mapping->dax, first + i));

		if (rc) {
			put_pages(mapping, i);
			return rc;
		}
	}
	return 0;
}

/* Have GUP on @mm find the region's pages in the mapping. */
static int add_device_vma(struct zd_dax_mapping *mapping, struct zd_mm *mm)
{
	struct zd_device_vma *d = &mapping->vma;

	if (!mm)
		return 0;
	d->mm = mm;
	d->start = (uintptr_t)mapping->addr;
	d->end = d->start + mapping->len;
	d->pfn = mapping->dax->pgmap.pfn + mapping->offset / ZD_PAGE_SIZE;
	d->refuse = (mapping->prot & PROT_WRITE ? 0 : ZD_ENTRY_NOWRITE) |
		    (mapping->dax->cfg.type == ZD_MEMORY_FS_DAX ? ZD_ENTRY_NOLONG : 0);
	d->hold = get_vma_page;
	return zd_device_vma_add(d);
}

/* Put what the mapping holds, when nothing reaches the memory through it any more. */
static void release_pages(struct zd_dax_mapping *mapping)
{
	if (mapping->vma.mm)
		zd_device_vma_remove(&mapping->vma);
	if (mapping->dax->cfg.by_owner)
		put_pages(mapping, mapping->len / ZD_PAGE_SIZE);
}

/* Map the empty file over the mapping.  A bare system call: a sanitizer takes an mmap() for a write
 * to memory that other threads read. */
static long map_empty_file(const struct zd_dax_mapping *mapping)
{
	return syscall(SYS_mmap, mapping->addr, mapping->len, mapping->prot,
		       MAP_SHARED | MAP_FIXED | MAP_NORESERVE, mapping->dax->empty_fd, 0);
}

/* Called with mappings_lock held. */
static void revoke_mapping(struct zd_dax_mapping *mapping)
{
	__atomic_store_n(&mapping->revoked, true, __ATOMIC_RELEASE);
	/* EAGAIN: mlockall(MCL_FUTURE), and the limit of locked memory is reached */
	if (map_empty_file(mapping) < 0 &&
	    (munlock(mapping->addr, mapping->len) || map_empty_file(mapping) < 0)) {
		/* the kernel has no memory for one vma; mprotect() needs none */
		zd_log(ZD_LOG_ERR, "a revoked mapping raises SIGSEGV instead of SIGBUS: %s",
		       strerrordesc_np(errno));
		ZD_BUG_ON(mprotect(mapping->addr, mapping->len, PROT_NONE), "can't revoke %p",
			  mapping->addr);
	}
	release_pages(mapping);
	cds_list_del_init(&mapping->node);
	mapping->dax = NULL;
}

/* --- mmap, munmap, revoke --- */

static int check_mmap(const struct zd_dax *dax, uint64_t offset, uint64_t len, int prot,
		      unsigned int flags)
{
	if (!dax || flags & ~FLAGS_ALL || !len || (offset | len) & (dax->cfg.align - 1) ||
	    !(prot & PROT_READ) || prot & ~(PROT_READ | PROT_WRITE))
		return -EINVAL;
	if (offset > zd_dax_bytes(dax) || len > zd_dax_bytes(dax) - offset)
		return -EINVAL;
	if (!zd_dax_opened_here(dax))
		return -EINVAL;
	return prot & PROT_WRITE && dax->cfg.rdonly ? -EACCES : 0;
}

/* Add the mapping to its region: from here on a revocation finds it.  -ENODEV: too late. */
static int publish(struct zd_dax_mapping *mapping)
{
	struct zd_dax *dax = mapping->dax;
	int rc = -ENODEV;

	zd_mutex_lock(&mappings_lock);
	if (!dax->killed) {
		cds_list_add(&mapping->node, &dax->mappings);
		rc = 0;
	}
	zd_mutex_unlock(&mappings_lock);
	return rc;
}

static int populate(const struct zd_dax_mapping *mapping)
{
	int advice = mapping->prot & PROT_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	while (madvise(mapping->addr, mapping->len, advice)) {
		if (errno == EINTR || errno == EAGAIN)
			continue;
		return errno == EFAULT || errno == EHWPOISON ? zd_dax_mapping_error(mapping) :
							       -errno;
	}
	return 0;
}

/* Called with the region held: its memory stays until the mapping is published, or given up. */
static int map_region(struct zd_dax *dax, struct zd_mm *mm, void *addr, uint64_t offset,
		      uint64_t length, int prot, unsigned int flags, struct zd_dax_mapping **out)
{
	struct zd_dax_mapping *mapping = zd_alloc(sizeof(*mapping));
	int rc;

	if (!mapping)
		return -ENOMEM;
	mapping->dax = dax;
	mapping->offset = offset;
	mapping->len = length;
	mapping->prot = prot;
	mapping->process = dax->process;
	rc = get_pages(mapping);
	if (rc)
		goto err_free;
	mapping->addr = zd_dax_place(dax, addr, offset, length, prot);
	if (mapping->addr == MAP_FAILED) {
		rc = -errno;
		goto err_pages;
	}
	if (flags & ZD_DAX_DONTFORK)
		madvise(mapping->addr, length, MADV_DONTFORK);
	rc = add_device_vma(mapping, mm);
	if (rc)
		goto err_unmap;
	rc = publish(mapping);
	if (rc)
		goto err_gup;
	*out = mapping;
	return 0;

err_gup:
	if (mm)
		zd_device_vma_remove(&mapping->vma);
err_unmap:
	munmap(mapping->addr, length);
err_pages:
	if (dax->cfg.by_owner)
		put_pages(mapping, length / ZD_PAGE_SIZE);
err_free:
	zd_free(mapping);
	return rc;
}

int zd_dax_mmap(struct zd_dax *dax, struct zd_mm *mm, void *addr, uint64_t offset, uint64_t length,
		int prot, unsigned int flags, struct zd_dax_mapping **out)
{
	int rc = out ? check_mmap(dax, offset, length, prot, flags) : -EINVAL;
	struct zd_dax_mapping *mapping = NULL;

	if (rc)
		return rc;
	if (!zd_dax_tryget(dax))
		return -ENODEV;
	rc = map_region(dax, mm, addr, offset, length, prot, flags, &mapping);
	zd_put_dev_pagemap(&dax->pgmap);
	if (rc)
		return rc;
	if (flags & ZD_DAX_POPULATE)
		rc = populate(mapping);
	if (rc) {
		zd_dax_munmap(mapping);
		return rc;
	}
	*out = mapping;
	return 0;
}

int zd_dax_munmap(struct zd_dax_mapping *mapping)
{
	if (!mapping)
		return -EINVAL;
	if (!zd_is_this_process(&mapping->process)) {
		zd_warn_once(
			"a mapping's handle belongs to the process that made it, not to its children");
		return -EINVAL;
	}
	zd_mutex_lock(&mappings_lock);
	if (mapping->dax)
		revoke_mapping(mapping);
	zd_mutex_unlock(&mappings_lock);
	munmap(mapping->addr, mapping->len);
	zd_free(mapping);
	return 0;
}

static void revoke_all(struct zd_dax *dax)
{
	struct zd_dax_mapping *mapping, *next;

	zd_mutex_lock(&mappings_lock);
	cds_list_for_each_entry_safe(mapping, next, &dax->mappings, node)
		revoke_mapping(mapping);
	zd_mutex_unlock(&mappings_lock);
}

int zd_dax_revoke(struct zd_dax *dax)
{
	if (!dax || !zd_dax_opened_here(dax))
		return -EINVAL;
	revoke_all(dax);
	return 0;
}

int zd_dax_kill(struct zd_dax *dax)
{
	int rc = zd_pagemap_kill(&dax->pgmap);

	if (rc)
		return rc;
	zd_mutex_lock(&mappings_lock);
	dax->killed = true;
	zd_mutex_unlock(&mappings_lock);
	return 0;
}

void zd_dax_revoke_and_put(struct zd_dax *dax)
{
	zd_teardown_step(&dax->pgmap, "revoke");
	revoke_all(dax);
	zd_pagemap_put_base(&dax->pgmap);
}
