/* SPDX-License-Identifier: MIT */
/*
 * Structs that grow at the end (docs/abi.md).  A program passes the size that such a
 * struct had when it was compiled, which may be less than ours, or more.
 */
#ifndef ZD_BASE_SIZED_H
#define ZD_BASE_SIZED_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The program's struct of @size bytes gets of ours, @known bytes, what it has room for;
 * what we don't know is zero there. */
static inline void zd_fill(void *to, size_t size, const void *from, size_t known)
{
	size_t n = size < known ? size : known;

	memcpy(to, from, n);
	memset((char *)to + n, 0, size - n);
}

/* The reverse: what the program's struct lacks is zero in ours. */
static inline void zd_take(void *to, size_t known, const void *from, size_t size)
{
	zd_fill(to, known, from, size);
}

#define ZD_SIZED_MAX	4096u	/* no struct of ours is that long: such a size is garbage */

/* Does the program's struct, of @size bytes, ask for nothing behind the @known ones? */
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
