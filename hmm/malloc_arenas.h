/* SPDX-License-Identifier: MIT */
/* Which memory is malloc's own: touched by the C library while it holds malloc's locks. */
#ifndef ZD_HMM_MALLOC_ARENAS_H
#define ZD_HMM_MALLOC_ARENAS_H

#include "space/range.h"

/*
 * zd_malloc_is_unknown - why the memory of the program's malloc can't be told from other
 * memory; NULL: it can.  Some memory that it gives out later may make it unknown, so ask each
 * time.  A thread of the program, without locks; mallocs, and blocks.
 */
const char *zd_malloc_is_unknown(void);

/*
 * zd_malloc_arenas - those parts of [start, end) that are arenas of glibc's malloc, which is
 * not unknown, into @arenas (zeroed; zd_ranges_destroy() it, also on failure).
 * 0, -ENOMEM.  A thread of the program, without locks, since the call touches memory that
 * may be managed; blocks.
 */
int zd_malloc_arenas(uint64_t start, uint64_t end, struct zd_ranges *arenas);

#endif
