/* SPDX-License-Identifier: MIT */
/* lib_malloc.c with another malloc in front of glibc's, as jemalloc or a preloaded one would be. */
#include <stddef.h>

void *__libc_malloc(size_t size);
void __libc_free(void *p);
void *__libc_calloc(size_t nr, size_t size);
void *__libc_realloc(void *p, size_t size);

void *malloc(size_t size)
{
	return __libc_malloc(size);
}

void free(void *p)
{
	__libc_free(p);
}

void *calloc(size_t nr, size_t size)
{
	return __libc_calloc(nr, size);
}

void *realloc(void *p, size_t size)
{
	return __libc_realloc(p, size);
}

#define OTHER_MALLOC 1
#include "lib_malloc.c"
