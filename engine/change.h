/* SPDX-License-Identifier: MIT */
/* What one event of an address space says that happened to it. */
#ifndef ZD_ENGINE_CHANGE_H
#define ZD_ENGINE_CHANGE_H

#include <stdbool.h>
#include <stdint.h>

struct zd_mm;

enum zd_change_type {
	ZD_CHANGE_MOVE,		/* mremap: [start, end) is at @to now */
	ZD_CHANGE_UNMAP,
	ZD_CHANGE_REMOVE,	/* madvise: its content is given up */
	ZD_CHANGE_FORK,		/* @child is a copy of what there was */
};

struct zd_change {
	enum zd_change_type type;
	uint64_t start, end;
	uint64_t to;
	struct zd_mm *child;
	bool dontunmap;		/* MOVE, by MREMAP_DONTUNMAP: no echo (changes.c) has been read (yet) */
	uint32_t group;		/* change_group.h */
};

static inline uint64_t zd_change_len(const struct zd_change *c)
{
	return c->end - c->start;
}

#endif
