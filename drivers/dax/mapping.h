/* SPDX-License-Identifier: MIT */
/* drivers/dax/mapping.h - one mapping of a region in the program, by zd_dax_mmap(). */
#ifndef ZD_DRIVERS_DAX_MAPPING_H
#define ZD_DRIVERS_DAX_MAPPING_H

#include <errno.h>

#include "drivers/dax/dax.h"

struct zd_dax_mapping {
	struct zd_device_vma vma;	/* its mm is NULL where GUP doesn't know the mapping */
	struct zd_dax *dax;		/* mappings_lock (mapping.c); NULL once it is revoked */
	struct cds_list_head node;	/* in dax->mappings, or on its own once it is revoked */
	char *addr;
	uint64_t offset, len;
	int prot;
	struct zd_process process;
	bool revoked;			/* set before the memory goes */
};

static inline bool zd_dax_mapping_is_revoked(const struct zd_dax_mapping *mapping)
{
	/* acquire: pairs with the release in mapping.c's revoke_mapping() */
	return __atomic_load_n(&mapping->revoked, __ATOMIC_ACQUIRE);
}

/* The error that a fault in the mapping stands for. */
static inline int zd_dax_mapping_error(const struct zd_dax_mapping *mapping)
{
	return zd_dax_mapping_is_revoked(mapping) ? -ENODEV : -EIO;
}

#endif
