/* SPDX-License-Identifier: MIT */
/*
 * Strings without libc: a program may define strlen() or memcpy() for itself, and would be
 * called in the middle of its own fork or exec.  The volatile accesses keep the compiler from
 * putting those calls back.
 */
#ifndef ZD_RUN_AGENT_TEXT_H
#define ZD_RUN_AGENT_TEXT_H

#include <stdbool.h>
#include <stddef.h>

static inline size_t text_length(const char *s)
{
	size_t n = 0;

	while (((const volatile char *)s)[n])
		n++;
	return n;
}

static inline bool text_begins(const char *s, const char *with)
{
	while (*with && *s == *with)
		s++, with++;
	return !*with;
}

/* The first @what in @s, or NULL. */
static inline const char *text_find(const char *s, const char *what)
{
	for (; *s; s++)
		if (text_begins(s, what))
			return s;
	return NULL;
}

static inline void text_copy(char *to, const char *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((volatile char *)to)[i] = from[i];
}

#endif
