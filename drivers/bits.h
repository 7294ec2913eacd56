/* SPDX-License-Identifier: MIT */
/*
 * drivers/bits.h - a bitmap with summaries, for finding a bit among billions.
 *
 * Level 0 is the bitmap.  Each bit of level k+1 sums up one 64-bit word of
 * level k, so a search climbs over words that can't hold an answer and comes down
 * where one is: a few loads whatever the size.  Two kinds:
 *
 *	ZD_BITS_FIND_SET	a summary bit is set when any bit below is set
 *	ZD_BITS_FIND_CLEAR	a summary bit is set when all bits below are set
 *
 * All-zero memory is the empty bitmap for both, so of a huge bitmap the parts that were
 * never set cost address space only.  No locks here: the owner has one.
 */
#ifndef ZD_DRIVERS_BITS_H
#define ZD_DRIVERS_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZD_BITS_LEVELS 6	/* 64^6 = 2^36 bits: every pfn there can be */

enum zd_bits_kind { ZD_BITS_FIND_SET, ZD_BITS_FIND_CLEAR };

struct zd_bits {
	enum zd_bits_kind kind;
	unsigned int levels;
	uint64_t nr;			/* bits of level 0 */
	uint64_t words[ZD_BITS_LEVELS];	/* 64-bit words of each level */
	uint64_t *level[ZD_BITS_LEVELS];
	void *mem;
	size_t bytes;
};

/* 0, -EINVAL (no bits or too many) or -ENOMEM.  zd_bits_exit() undoes it and
 * may be called on a zeroed struct. */
int zd_bits_init(struct zd_bits *bits, enum zd_bits_kind kind, uint64_t nr);
void zd_bits_exit(struct zd_bits *bits);

/* Set or clear the bits of @mask in the 64-bit word number @word of level 0. */
void zd_bits_or(struct zd_bits *bits, uint64_t word, uint64_t mask);
void zd_bits_andnot(struct zd_bits *bits, uint64_t word, uint64_t mask);

/* First bit at @from or above that is set (or clear, by kind); @nr when there
 * is none. */
uint64_t zd_bits_find(const struct zd_bits *bits, uint64_t from);

static inline uint64_t zd_bits_word(const struct zd_bits *bits, uint64_t word)
{
	return bits->level[0][word];
}

static inline bool zd_bits_test(const struct zd_bits *bits, uint64_t bit)
{
	return bits->level[0][bit / 64] >> (bit % 64) & 1;
}

static inline void zd_bits_set(struct zd_bits *bits, uint64_t bit)
{
	zd_bits_or(bits, bit / 64, 1ULL << (bit % 64));
}

static inline void zd_bits_clear(struct zd_bits *bits, uint64_t bit)
{
	zd_bits_andnot(bits, bit / 64, 1ULL << (bit % 64));
}

#endif
