/* SPDX-License-Identifier: MIT */
/* The descriptor table, as pfn_range.c makes it longer: with pagemap.c's map_lock. */
#ifndef ZD_PAGES_VMEMMAP_H
#define ZD_PAGES_VMEMMAP_H

#include <stdint.h>

#include <zonedev/page.h>

/* zd_vmemmap_init - choose the place of the table.  0, or -ENOMEM. */
int zd_vmemmap_init(void);

/* zd_vmemmap_open - make the descriptors of @nr pfns from @first on, and all below, readable
 * and writable.  0; -ENOSPC: the table has no place for so many; -ENOMEM. */
int zd_vmemmap_open(zd_pfn_t first, uint64_t nr);

#endif
