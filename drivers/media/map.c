/* SPDX-License-Identifier: MIT */
/*
 * The media's mapping: by libpmem2, which finds out what makes a store durable there.
 */
#include <errno.h>
#include <libpmem2.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/fault_guard.h"
#include "drivers/media/media.h"
#include "drivers/place.h"

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

/* Can the file be mapped with MAP_SYNC, as one on DAX?  Then further mappings must be, too. */
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
		/* NONE stays, for a file in memory (pmem/file.c), unless a test wants msync() */
		if (m->persist != ZD_PMEM_PERSIST_NONE || secure_getenv("PMEM2_FORCE_GRANULARITY"))
			m->persist = ZD_PMEM_PERSIST_PAGE;
		return;
	}
	m->flush_fn = pmem2_get_flush_fn(m->map);
	m->drain_fn = pmem2_get_drain_fn(m->map);
	probe_map_sync(m);
}

/* The thread that opens the region; blocks. */
int zd_media_map(struct zd_media *m)
{
	int rc = zd_fault_guard_init();

	if (rc)
		return rc;
	/* the opener before may have punched holes that aren't durable yet */
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
	zd_media_free_poison(m);
}
