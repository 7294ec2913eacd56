/* SPDX-License-Identifier: MIT */
/*
 * Structs that grow at the end (docs/abi.md).  A program passes the size that such a
 * struct had when it was compiled, which may be less than in the library, or more.
 */
#ifndef ZD_BASE_SIZED_H
#define ZD_BASE_SIZED_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* zd_fill - give the program's struct, of @size bytes, as much of the library's, of @known
 * bytes, as there is room for; members that the library doesn't know are zero. */
static inline void zd_fill(void *to, size_t size, const void *from, size_t known)
{
	size_t n = size < known ? size : known;

	memcpy(to, from, n);
	memset((char *)to + n, 0, size - n);
}

/* zd_take - the reverse: members that the program's struct lacks are zero in the library's. */
static inline void zd_take(void *to, size_t known, const void *from, size_t size)
{
	zd_fill(to, known, from, size);
}

#define ZD_SIZED_MAX	4096u	/* no public struct is longer: the size is garbage */

/* zd_tail_is_zero - whether the program's struct, of @size bytes, asks for nothing that the
 * library, which knows the first @known bytes, doesn't know. */
static inline bool zd_tail_is_zero(const void *p, size_t known, size_t size)
{
	if (size > ZD_SIZED_MAX)
		return false;
	for (size_t i = known; i < size; i++)
		if (((const char *)p)[i])
			return false;
	return true;
}

#endif
