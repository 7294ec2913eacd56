/* SPDX-License-Identifier: MIT */
/*
 * Memory of zonedev's own.  Never malloc: a fault thread that mallocs may wait
 * for a lock whose holder waits for that very fault, and malloc'ed memory may
 * itself be managed.  Each mapping is fenced by PROT_NONE pages, so the kernel
 * can't merge it with the program's mappings, and lies wholly in the range
 * that zd_own_ranges() reports.
 *
 * All calls: any thread; may block for a short lock and for mmap(2).
 */
#ifndef ZD_BASE_ALLOC_H
#define ZD_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* zd_alloc - @size zeroed bytes, aligned to the next power of two of @size up
 * to 4096 (at least 32).  NULL: out of memory (size 0 gives a unique pointer). */
void *zd_alloc(size_t size) __attribute__((malloc, warn_unused_result));
/* zd_free - NULL is fine; a pointer that isn't allocated aborts. */
void zd_free(void *p);
/* zd_realloc - as realloc(3), but what is added is zeroed; on NULL @p lives on. */
void *zd_realloc(void *p, size_t size) __attribute__((warn_unused_result));

/* zd_reserve - @bytes (rounded up to pages) of zero memory, committed page by
 * page as it is touched; not in core dumps; never huge pages.  NULL on failure,
 * with errno.  zd_unreserve takes the same @bytes. */
void *zd_reserve(size_t bytes) __attribute__((warn_unused_result));
void zd_unreserve(void *p, size_t bytes);
/* zd_decommit - whole pages read as zero again, their memory is given back. */
void zd_decommit(void *p, size_t bytes);

/* zd_alloc_is_busy - true in a signal handler that has interrupted one of the calls above:
 * the handler may make none of them. */
bool zd_alloc_is_busy(void);

/* For tests: the @nth call of zd_alloc or zd_realloc from now on returns NULL
 * (1 = the next; 0 = off). */
void zd_alloc_fail_nth(unsigned int nth);

#endif
