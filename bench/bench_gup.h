/* SPDX-License-Identifier: MIT */
/* The registration cache that GUP is compared with (bench_gup_ucx.c). */
#ifndef ZD_BENCH_GUP_H
#define ZD_BENCH_GUP_H

#include <stdbool.h>
#include <stddef.h>

/* Cache [mem + i * step, + len) for all i < nr.  NULL, or why that can't be done. */
const char *bench_rcache_start(char *mem, size_t nr, size_t step, size_t len);
/* One lookup + release of a stretch that is in the cache. */
void bench_rcache_get_put(char *addr, size_t len);
void bench_rcache_stop(void);

#endif
