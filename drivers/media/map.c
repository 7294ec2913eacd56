/* SPDX-License-Identifier: MIT */
/*
 * The media's mapping: by libpmem2, which finds out what makes a store durable there; and
 * pages of it that are made to fail, for tests.
 */
#include <errno.h>
#include <libpmem2.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault_guard.h"
#include "drivers/place.h"
#include "drivers/pmem/pmem.h"

#ifndef MAP_SYNC
#define MAP_SYNC	0x80000
#endif

static int pmem2_error(int rc)
{
	if (rc >= 0)
		return 0;
	if (rc > PMEM2_E_UNKNOWN)
		return rc;		/* -errno */
	return rc == PMEM2_E_NO_ACCESS ? -EACCES : -EINVAL;
}

/* libpmem2 maps at multiples of 2 MiB, or of the device's alignment. */
static int map_pmem2(struct zd_media *m)
{
	struct pmem2_source *src = NULL;
	struct pmem2_config *cfg = NULL;
	unsigned int prot = PMEM2_PROT_READ | (m->readonly ? 0 : PMEM2_PROT_WRITE);
	int rc;

	rc = pmem2_source_from_fd(&src, m->fd);
	if (rc)
		goto out;
	rc = pmem2_config_new(&cfg);
	if (rc)
		goto out;
	rc = pmem2_config_set_required_store_granularity(cfg, PMEM2_GRANULARITY_PAGE);
	if (!rc)
		rc = pmem2_config_set_protection(cfg, prot);
	if (!rc)
		rc = pmem2_config_set_length(cfg, m->bytes);
	if (!rc)
		rc = pmem2_map_new(&m->map, cfg, src);
out:
	pmem2_config_delete(&cfg);
	pmem2_source_delete(&src);
	return pmem2_error(rc);
}

static int map_block(struct zd_media *m)
{
	int prot = PROT_READ | (m->readonly ? 0 : PROT_WRITE);
	char *at = zd_reserve_place(0, m->bytes, m->align);
	int err;

	if (at == MAP_FAILED)
		return -errno;
	if (mmap(at, m->bytes, prot, MAP_SHARED | MAP_FIXED, m->fd, 0) == MAP_FAILED) {
		err = -errno;
		munmap(at, m->bytes);
		return err;
	}
	m->base = at;
	m->persist = ZD_PMEM_PERSIST_PAGE;
	return 0;
}

/* Is it DAX?  Then further mappings must be like this one. */
static void probe_map_sync(struct zd_media *m)
{
	void *p = mmap(NULL, m->align, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, m->fd, 0);

	if (p == MAP_FAILED)
		return;
	munmap(p, m->align);
	m->map_flags = MAP_SHARED_VALIDATE | MAP_SYNC;
}

static void set_persist(struct zd_media *m)
{
	switch (pmem2_map_get_store_granularity(m->map)) {
	case PMEM2_GRANULARITY_BYTE:
		m->persist = ZD_PMEM_PERSIST_BYTE;
		break;
	case PMEM2_GRANULARITY_CACHE_LINE:
		m->persist = ZD_PMEM_PERSIST_CACHE_LINE;
		break;
	default:
		/* or NONE, as the file has been found to be, unless a test insists */
		if (m->persist != ZD_PMEM_PERSIST_NONE || secure_getenv("PMEM2_FORCE_GRANULARITY"))
			m->persist = ZD_PMEM_PERSIST_PAGE;
		return;
	}
	m->flush_fn = pmem2_get_flush_fn(m->map);
	m->drain_fn = pmem2_get_drain_fn(m->map);
	probe_map_sync(m);
}

int zd_media_map(struct zd_media *m)
{
	int rc = zd_fault_guard_init();

	if (rc)
		return rc;
	/* who had it before us may have punched holes that aren't durable yet */
	m->hole_ticket = 1;
	rc = m->block ? map_block(m) : map_pmem2(m);
	if (rc)
		return rc;
	if (m->map) {
		m->base = pmem2_map_get_address(m->map);
		set_persist(m);
	}
	zd_media_open_sync_files(m);
	/* as for any region's own mapping: see dax.c */
	madvise(m->base, m->bytes, MADV_DONTFORK);
	madvise(m->base, m->bytes, MADV_DONTDUMP);
	return 0;
}

void zd_media_unmap(struct zd_media *m)
{
	if (m->map)
		pmem2_map_delete(&m->map);
	else if (m->base)
		munmap(m->base, m->bytes);
	m->base = NULL;
	zd_media_close_sync_files(m);
	zd_free(m->poison);
	m->poison = NULL;
	m->nr_poison = m->poison_capacity = 0;
}

/* --- poison for tests --- */

/* A system call of our own: a sanitizer would take a change of mapping for a write
 * to memory that other threads read. */
static int remap(struct zd_media *m, uint64_t page, int fd, uint64_t off, int flags)
{
	int prot = PROT_READ | (m->readonly ? 0 : PROT_WRITE);
	char *at = m->base + page * ZD_PAGE_SIZE;

	if (syscall(SYS_mmap, at, ZD_PAGE_SIZE, prot, flags | MAP_FIXED, fd, off) < 0)
		return -errno;
	madvise(at, ZD_PAGE_SIZE, MADV_DONTFORK);
	madvise(at, ZD_PAGE_SIZE, MADV_DONTDUMP);
	return 0;
}

/* Its place in the list; nr_poison: none.  Under poison_lock. */
static uint32_t find_poison(const struct zd_media *m, uint64_t page)
{
	uint32_t i;

	for (i = 0; i < m->nr_poison && m->poison[i] != page; i++)
		;
	return i;
}

static int add_poison(struct zd_media *m, uint64_t page)
{
	uint32_t more = m->poison_capacity ? m->poison_capacity * 2 : 16;
	uint64_t *p = m->poison;
	int rc;

	if (find_poison(m, page) < m->nr_poison)
		return 0;
	if (m->nr_poison == m->poison_capacity) {
		p = zd_realloc(p, more * sizeof(*p));
		if (!p)
			return -ENOMEM;
		m->poison = p;
		m->poison_capacity = more;
	}
	rc = remap(m, page, m->dax->empty_fd, 0, MAP_SHARED);
	if (!rc)
		m->poison[m->nr_poison++] = page;
	return rc;
}

int zd_media_inject_poison(struct zd_media *m, uint64_t first, uint64_t nr)
{
	int rc = 0;

	if (m->align > ZD_PAGE_SIZE)		/* a page of it can't be mapped by itself */
		return -EOPNOTSUPP;
	zd_mutex_lock(&m->poison_lock);
	for (uint64_t page = first; page < first + nr && !rc; page++)
		rc = add_poison(m, page);
	zd_mutex_unlock(&m->poison_lock);
	return rc;
}

bool zd_media_has_poison(struct zd_media *m)
{
	bool any;

	zd_mutex_lock(&m->poison_lock);
	any = m->nr_poison;
	zd_mutex_unlock(&m->poison_lock);
	return any;
}

bool zd_media_is_poisoned(struct zd_media *m, uint64_t page)
{
	bool found;

	zd_mutex_lock(&m->poison_lock);
	found = find_poison(m, page) < m->nr_poison;
	zd_mutex_unlock(&m->poison_lock);
	return found;
}

/* True: it was poisoned, and isn't any more.  What it held is lost: first bad, then
 * readable. */
bool zd_media_heal_poison(struct zd_media *m, uint64_t page)
{
	bool healed = false;
	uint32_t i;

	zd_mutex_lock(&m->poison_lock);
	i = find_poison(m, page);
	if (i < m->nr_poison && !zd_media_page_failed(m, page) &&
	    !remap(m, page, m->fd, page * ZD_PAGE_SIZE, m->map_flags ? m->map_flags : MAP_SHARED)) {
		m->poison[i] = m->poison[--m->nr_poison];
		healed = true;
	}
	zd_mutex_unlock(&m->poison_lock);
	return healed;
}
