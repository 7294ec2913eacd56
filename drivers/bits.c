/* SPDX-License-Identifier: MIT */
/* drivers/bits.c - see bits.h for the mechanism. */
#include "drivers/bits.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"

int zd_bits_init(struct zd_bits *bits, enum zd_bits_kind kind, uint64_t nr)
{
	uint64_t total = 0, n = nr;
	uint64_t *p;
	unsigned int k;

	memset(bits, 0, sizeof(*bits));
	if (!nr || nr > 1ULL << 36)
		return -EINVAL;
	bits->kind = kind;
	bits->nr = nr;
	do {
		n = n / 64 + (n % 64 != 0);
		bits->words[bits->levels++] = n;
		total += n;
	} while (n > 1);

	bits->bytes = total * sizeof(uint64_t);
	bits->mem = zd_reserve(bits->bytes);
	if (!bits->mem)
		return -ENOMEM;
	p = bits->mem;
	for (k = 0; k < bits->levels; k++) {
		bits->level[k] = p;
		p += bits->words[k];
	}
	return 0;
}

void zd_bits_exit(struct zd_bits *bits)
{
	if (bits->mem)
		zd_unreserve(bits->mem, bits->bytes);
	memset(bits, 0, sizeof(*bits));
}

/* The summary bit that a word of this value should have. */
static bool summary(const struct zd_bits *bits, uint64_t value)
{
	return bits->kind == ZD_BITS_FIND_SET ? value != 0 : value == ~0ULL;
}

void zd_bits_or(struct zd_bits *bits, uint64_t word, uint64_t mask)
{
	unsigned int k;

	for (k = 0; k < bits->levels; k++) {
		uint64_t *p = &bits->level[k][word];
		bool before = summary(bits, *p);

		*p |= mask;
		if (before == summary(bits, *p))
			return;
		mask = 1ULL << (word % 64);
		word /= 64;
	}
}

void zd_bits_andnot(struct zd_bits *bits, uint64_t word, uint64_t mask)
{
	unsigned int k;

	for (k = 0; k < bits->levels; k++) {
		uint64_t *p = &bits->level[k][word];
		bool before = summary(bits, *p);

		*p &= ~mask;
		if (before == summary(bits, *p))
			return;
		mask = 1ULL << (word % 64);
		word /= 64;
	}
}

uint64_t zd_bits_find(const struct zd_bits *bits, uint64_t from)
{
	const uint64_t flip = bits->kind == ZD_BITS_FIND_SET ? 0 : ~0ULL;
	uint64_t pos = from, hit;
	unsigned int k;

	/* Up: at each level look only at what is left of the current word. */
	for (k = 0;; k++) {
		if (k == bits->levels || pos / 64 >= bits->words[k])
			return bits->nr;
		hit = (bits->level[k][pos / 64] ^ flip) & ~0ULL << (pos % 64);
		if (hit)
			break;
		pos = pos / 64 + 1;
	}
	pos = pos / 64 * 64 + __builtin_ctzll(hit);
	/* Down: the summary promises an answer below.  Past the end no bit is
	 * ever set, so FIND_CLEAR may be led to a word that doesn't exist, or to
	 * the first bit past the end, which is @nr. */
	while (k--) {
		if (pos >= bits->words[k])
			return bits->nr;
		hit = bits->level[k][pos] ^ flip;
		pos = pos * 64 + __builtin_ctzll(hit);
	}
	return pos;
}
