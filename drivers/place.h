/* SPDX-License-Identifier: MIT */
/* drivers/place.h - addresses for a mapping that its device, or huge pages, want aligned. */
#ifndef ZD_DRIVERS_PLACE_H
#define ZD_DRIVERS_PLACE_H

#include <stdint.h>

/*
 * zd_reserve_place - reserve addresses for a mapping of @len bytes from byte @offset of a
 * file on; @align is what the file's device demands.  A mapping of 2 MiB or more lies as the
 * file does modulo 2 MiB, so that the kernel can map it by huge pages (THP, DAX), whatever
 * is demanded.
 *
 * The place is inaccessible: map over it (MAP_FIXED), or munmap() it.  MAP_FAILED with errno.
 * Any thread.
 */
void *zd_reserve_place(uint64_t offset, uint64_t len, uint64_t align);

#endif
