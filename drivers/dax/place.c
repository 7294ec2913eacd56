/* SPDX-License-Identifier: MIT */
/*
 * Where a mapping of a region lies: at the alignment that the device demands, and so that huge
 * pages are possible.
 */
#include "drivers/dax/dax.h"

#include <errno.h>
#include <sys/mman.h>

#include "drivers/place.h"

#define HUGE_BYTES	(UINT64_C(2) << 20)

static void *map_at(const struct zd_dax *dax, void *addr, uint64_t offset, uint64_t len, int prot,
		    int flags)
{
	flags |= dax->cfg.map_flags ? dax->cfg.map_flags : MAP_SHARED;
	return mmap(addr, len, prot, flags, dax->cfg.fd, (off_t)(dax->cfg.offset + offset));
}

static char *map_aligned(const struct zd_dax *dax, uint64_t offset, uint64_t len, int prot)
{
	char *at = zd_reserve_place(dax->cfg.offset + offset, len, dax->cfg.align);
	int err;

	if (at == MAP_FAILED || map_at(dax, at, offset, len, prot, MAP_FIXED) != MAP_FAILED)
		return at;
	err = errno;
	munmap(at, len);
	errno = err;
	return MAP_FAILED;
}

/* The address that the caller has chosen need not be the best: only one that the device takes. */
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
