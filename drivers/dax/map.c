/* SPDX-License-Identifier: MIT */
/*
 * Mappings of a region for the program, and how they end.
 *
 * A mapping ends by being buried: one mmap(MAP_FIXED) puts an empty file's mapping
 * in its place, in one step for every thread, so an access finds the region or
 * raises SIGBUS, and no other mmap() can get the addresses.  Only then do its pages
 * go: entries that GUP reads first, references last.  So when a page is free,
 * nothing maps it.
 */
#include "drivers/dax/dax.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/fault_guard.h"
#include "pages/pagemap.h"
#include "zonedev/log.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

#define HUGE_BYTES	(UINT64_C(2) << 20)
#define FLAGS_ALL	(ZD_DAX_POPULATE | ZD_DAX_DONTFORK)

struct zd_dax_mapping {
	struct zd_devmap devmap;	/* mm NULL: GUP doesn't know it */
	struct zd_dax *dax;		/* maps_lock; not once it is revoked */
	struct cds_list_head node;	/* dax->maps, or on its own */
	char *addr;
	uint64_t offset, len;
	int prot;
	struct zd_process process;
	bool revoked;			/* set before its memory goes */
};

static struct zd_mutex maps_lock;	/* see dax.h */

/* --- addresses --- */

static void *map_at(const struct zd_dax *dax, void *addr, uint64_t offset, uint64_t len, int prot,
		    int flags)
{
	flags |= dax->cfg.map_flags ? dax->cfg.map_flags : MAP_SHARED;
	return mmap(addr, len, prot, flags, dax->cfg.fd, (off_t)(dax->cfg.offset + offset));
}

static uint64_t step_of(uint64_t len, uint64_t align)
{
	return len >= HUGE_BYTES && align < HUGE_BYTES ? HUGE_BYTES : align;
}

/* Take more than needed, and give back what lies around the part that fits. */
void *zd_dax_reserve(uint64_t offset, uint64_t len, uint64_t align)
{
	uint64_t step = step_of(len, align), more = len + step - ZD_PAGE_SIZE;
	char *room = mmap(NULL, more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *at;

	if (room == MAP_FAILED)
		return room;
	at = room + ((offset - (uintptr_t)room) & (step - 1));
	if (at > room)
		munmap(room, at - room);
	if (at + len < room + more)
		munmap(at + len, room + more - (at + len));
	return at;
}

static char *map_aligned(const struct zd_dax *dax, uint64_t offset, uint64_t len, int prot)
{
	char *at = zd_dax_reserve(dax->cfg.offset + offset, len, dax->cfg.align);
	int err;

	if (at == MAP_FAILED || map_at(dax, at, offset, len, prot, MAP_FIXED) != MAP_FAILED)
		return at;
	err = errno;
	munmap(at, len);
	errno = err;
	return MAP_FAILED;
}

/* A place that the caller has chosen need only be one that the device takes. */
static char *map_at_hint(const struct zd_dax *dax, void *hint, uint64_t offset, uint64_t len,
			 int prot)
{
	char *at;

	if ((uintptr_t)hint & (dax->cfg.align - 1))
		return MAP_FAILED;
	at = map_at(dax, hint, offset, len, prot, 0);
	if (at == MAP_FAILED || at == hint)
		return at;
	munmap(at, len);
	return MAP_FAILED;
}

void *zd_dax_place(const struct zd_dax *dax, void *hint, uint64_t offset, uint64_t len, int prot)
{
	char *at = hint ? map_at_hint(dax, hint, offset, len, prot) : MAP_FAILED;

	if (at == MAP_FAILED)
		at = map_aligned(dax, offset, len, prot);
	if (at != MAP_FAILED && dax->cfg.align >= HUGE_BYTES)
		madvise(at, len, MADV_HUGEPAGE);	/* where there are any */
	return at;
}

/* --- pages of a mapping --- */

static int hold(struct zd_devmap *devmap, struct zd_page *page)
{
	return zd_dax_get_page(caa_container_of(devmap, struct zd_dax_mapping, devmap)->dax, page);
}

static void put_pages(struct zd_dax_mapping *map, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++)
		zd_put_page(zd_dax_page(map->dax, map->offset / ZD_PAGE_SIZE + i));
}

/* Pages that live by their owner's will: the mapping holds each. */
static int hold_pages(struct zd_dax_mapping *map)
{
	uint64_t nr = map->len / ZD_PAGE_SIZE, first = map->offset / ZD_PAGE_SIZE;

	if (!map->dax->cfg.by_owner)
		return 0;
	for (uint64_t i = 0; i < nr; i++) {
		int rc = zd_dax_get_page(map->dax, zd_dax_page(map->dax, first + i));

		if (rc) {
			put_pages(map, i);
			return rc;
		}
	}
	return 0;
}

static int tell_gup(struct zd_dax_mapping *map, struct zd_mm *mm)
{
	struct zd_devmap *d = &map->devmap;

	if (!mm)
		return 0;
	d->mm = mm;
	d->start = (uintptr_t)map->addr;
	d->end = d->start + map->len;
	d->pfn = map->dax->pgmap.pfn + map->offset / ZD_PAGE_SIZE;
	d->refuse = (map->prot & PROT_WRITE ? 0 : ZD_ENTRY_NOWRITE) |
		    (map->dax->cfg.type == ZD_MEMORY_FS_DAX ? ZD_ENTRY_NOLONG : 0);
	d->hold = hold;
	return zd_devmap_add(d);
}

/* What the mapping held.  Nothing reaches the memory through it any more. */
static void let_go(struct zd_dax_mapping *map)
{
	if (map->devmap.mm)
		zd_devmap_remove(&map->devmap);
	if (map->dax->cfg.by_owner)
		put_pages(map, map->len / ZD_PAGE_SIZE);
}

/* A system call of our own: a sanitizer would take the change of mapping for a write to
 * memory that other threads read. */
static long map_grave(const struct zd_dax_mapping *map)
{
	return syscall(SYS_mmap, map->addr, map->len, map->prot,
		       MAP_SHARED | MAP_FIXED | MAP_NORESERVE, map->dax->empty_fd, 0);
}

/* Under maps_lock. */
static void bury(struct zd_dax_mapping *map)
{
	__atomic_store_n(&map->revoked, true, __ATOMIC_RELEASE);
	/* EAGAIN: everything is to be locked, and more than that may not */
	if (map_grave(map) < 0 && (munlock(map->addr, map->len) || map_grave(map) < 0)) {
		/* no memory for one vma; this needs none */
		zd_log(ZD_LOG_ERR, "a revoked mapping raises SIGSEGV instead of SIGBUS: %s",
		       strerrordesc_np(errno));
		ZD_BUG_ON(mprotect(map->addr, map->len, PROT_NONE), "can't revoke %p", map->addr);
	}
	let_go(map);
	cds_list_del_init(&map->node);
	map->dax = NULL;
}

/* --- mmap, munmap, revoke --- */

static int check(const struct zd_dax *dax, uint64_t offset, uint64_t len, int prot,
		 unsigned int flags)
{
	if (!dax || flags & ~FLAGS_ALL || !len || (offset | len) & (dax->cfg.align - 1) ||
	    !(prot & PROT_READ) || prot & ~(PROT_READ | PROT_WRITE))
		return -EINVAL;
	if (offset > zd_dax_bytes(dax) || len > zd_dax_bytes(dax) - offset)
		return -EINVAL;
	if (!zd_dax_is_ours(dax))
		return -EINVAL;
	return prot & PROT_WRITE && dax->cfg.rdonly ? -EACCES : 0;
}

/* From here on a revocation finds it. */
static int publish(struct zd_dax_mapping *map)
{
	struct zd_dax *dax = map->dax;
	int rc = -ENODEV;

	zd_mutex_lock(&maps_lock);
	if (!dax->killed) {
		cds_list_add(&map->node, &dax->maps);
		rc = 0;
	}
	zd_mutex_unlock(&maps_lock);
	return rc;
}

/* What error is a fault in the mapping? */
static int fault_error(const struct zd_dax_mapping *map)
{
	return zd_dax_mapping_revoked(map) ? -ENODEV : -EIO;
}

static int populate(const struct zd_dax_mapping *map)
{
	int advice = map->prot & PROT_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	while (madvise(map->addr, map->len, advice)) {
		if (errno == EINTR || errno == EAGAIN)
			continue;
		return errno == EFAULT || errno == EHWPOISON ? fault_error(map) : -errno;
	}
	return 0;
}

/* The region is held: its memory stays until the mapping is published, or given up. */
static int map_region(struct zd_dax *dax, struct zd_mm *mm, void *addr, uint64_t offset,
		      uint64_t length, int prot, unsigned int flags, struct zd_dax_mapping **out)
{
	struct zd_dax_mapping *map = zd_alloc(sizeof(*map));
	int rc;

	if (!map)
		return -ENOMEM;
	map->dax = dax;
	map->offset = offset;
	map->len = length;
	map->prot = prot;
	map->process = dax->process;
	rc = hold_pages(map);
	if (rc)
		goto err_free;
	map->addr = zd_dax_place(dax, addr, offset, length, prot);
	if (map->addr == MAP_FAILED) {
		rc = -errno;
		goto err_pages;
	}
	if (flags & ZD_DAX_DONTFORK)
		madvise(map->addr, length, MADV_DONTFORK);
	rc = tell_gup(map, mm);
	if (rc)
		goto err_unmap;
	rc = publish(map);
	if (rc)
		goto err_gup;
	*out = map;
	return 0;

err_gup:
	if (mm)
		zd_devmap_remove(&map->devmap);
err_unmap:
	munmap(map->addr, length);
err_pages:
	if (dax->cfg.by_owner)
		put_pages(map, length / ZD_PAGE_SIZE);
err_free:
	zd_free(map);
	return rc;
}

int zd_dax_mmap(struct zd_dax *dax, struct zd_mm *mm, void *addr, uint64_t offset,
		uint64_t length, int prot, unsigned int flags, struct zd_dax_mapping **out)
{
	int rc = out ? check(dax, offset, length, prot, flags) : -EINVAL;
	struct zd_dax_mapping *map = NULL;

	if (rc)
		return rc;
	if (!zd_dax_tryget(dax))
		return -ENODEV;
	rc = map_region(dax, mm, addr, offset, length, prot, flags, &map);
	zd_put_dev_pagemap(&dax->pgmap);
	if (rc)
		return rc;
	if (flags & ZD_DAX_POPULATE)
		rc = populate(map);
	if (rc) {
		zd_dax_munmap(map);
		return rc;
	}
	*out = map;
	return 0;
}

int zd_dax_munmap(struct zd_dax_mapping *map)
{
	if (!map)
		return -EINVAL;
	if (!zd_is_this_process(&map->process)) {
		zd_warn_once("a mapping's handle belongs to the process that made it, not to its children");
		return -EINVAL;
	}
	zd_mutex_lock(&maps_lock);
	if (map->dax)
		bury(map);
	zd_mutex_unlock(&maps_lock);
	munmap(map->addr, map->len);
	zd_free(map);
	return 0;
}

static void revoke_all(struct zd_dax *dax)
{
	struct zd_dax_mapping *map, *next;

	zd_mutex_lock(&maps_lock);
	cds_list_for_each_entry_safe(map, next, &dax->maps, node)
		bury(map);
	zd_mutex_unlock(&maps_lock);
}

int zd_dax_revoke(struct zd_dax *dax)
{
	if (!dax || !zd_dax_is_ours(dax))
		return -EINVAL;
	revoke_all(dax);
	return 0;
}

int zd_dax_kill(struct zd_dax *dax)
{
	int rc = zd_pagemap_kill(&dax->pgmap);

	if (rc)
		return rc;
	zd_mutex_lock(&maps_lock);
	dax->killed = true;
	zd_mutex_unlock(&maps_lock);
	return 0;
}

void zd_dax_revoke_and_put(struct zd_dax *dax)
{
	zd_teardown_step(&dax->pgmap, "revoke");
	revoke_all(dax);
	zd_pagemap_put_base(&dax->pgmap);
}

/* --- access --- */

void *zd_dax_mapping_addr(const struct zd_dax_mapping *map)
{
	return map->addr;
}

uint64_t zd_dax_mapping_len(const struct zd_dax_mapping *map)
{
	return map->len;
}

bool zd_dax_mapping_revoked(const struct zd_dax_mapping *map)
{
	/* acquire: pairs with the release in bury() */
	return __atomic_load_n(&map->revoked, __ATOMIC_ACQUIRE);
}

struct guarded {
	int (*fn)(void *ctx);
	void *ctx;
	int result;
};

static void call(void *arg)
{
	struct guarded *g = arg;

	g->result = g->fn(g->ctx);
}

int zd_dax_access_guard(struct zd_dax_mapping *map, int (*fn)(void *ctx), void *ctx)
{
	struct guarded g = { .fn = fn, .ctx = ctx };

	if (!map || !fn)
		return -EINVAL;
	if (zd_dax_mapping_revoked(map))
		return -ENODEV;
	return zd_fault_guard_call(call, &g, map->addr, map->len, NULL) ? fault_error(map) : g.result;
}

static int copy(struct zd_dax_mapping *map, void *dst, const void *src, size_t len)
{
	struct zd_fault_result r = zd_fault_copy(dst, src, len);

	if (!r.left)
		return 0;
	return r.addr - (uintptr_t)map->addr < map->len ? fault_error(map) : -EFAULT;
}

static bool inside(const struct zd_dax_mapping *map, uint64_t offset, size_t len)
{
	return map && offset <= map->len && len <= map->len - offset;
}

int zd_dax_read(struct zd_dax_mapping *map, uint64_t offset, void *buf, size_t len)
{
	return inside(map, offset, len) ? copy(map, buf, map->addr + offset, len) : -EINVAL;
}

int zd_dax_write(struct zd_dax_mapping *map, uint64_t offset, const void *buf, size_t len)
{
	if (!inside(map, offset, len))
		return -EINVAL;
	return map->prot & PROT_WRITE ? copy(map, map->addr + offset, buf, len) : -EACCES;
}
