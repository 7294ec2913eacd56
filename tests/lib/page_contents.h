/* SPDX-License-Identifier: MIT */
/* Pages such as programs have: text, a heap of small objects, tables of structs, numbers. */
#ifndef TESTS_PAGE_CONTENTS_H
#define TESTS_PAGE_CONTENTS_H

#include <stdint.h>
#include <string.h>

#define CONTENTS_PAGE	4096

enum contents {
	CONTENTS_ZERO,		/* nothing */
	CONTENTS_SAME,		/* one word of 8 bytes */
	CONTENTS_TEXT,		/* words of a small vocabulary, as in logs */
	CONTENTS_HEAP,		/* objects of an interpreter: counts, types, pointers */
	CONTENTS_STRUCTS,	/* mostly zeros */
	CONTENTS_NUMBERS,	/* doubles: only their exponents are alike */
	CONTENTS_RANDOM,	/* compressed or encrypted already */
};

static inline uint64_t contents_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static inline void contents_text(char *page, uint64_t *state)
{
	size_t n = 0;

	while (n < CONTENTS_PAGE) {
		/* squared: some words are much more common than others */
		uint64_t word = contents_random(state) % 24;
		uint64_t letters = word * word * 0x9e3779b97f4a7c15ULL;

		for (unsigned int i = 0; i < 2 + word % 7 && n < CONTENTS_PAGE; i++)
			page[n++] = 'a' + (letters >> i * 8) % 26;
		if (n < CONTENTS_PAGE)
			page[n++] = ' ';
		for (unsigned int i = 0; i < 4 && word == 5 && n < CONTENTS_PAGE; i++)
			page[n++] = '0' + contents_random(state) % 10;
	}
}

static inline void contents_heap(uint64_t *w, uint64_t *state)
{
	for (unsigned int i = 0; i < CONTENTS_PAGE / 8; i += 4) {
		w[i] = contents_random(state) % 16 ? 1 : contents_random(state) % 200;
		w[i + 1] = 0x7f3a10000000 + contents_random(state) % 6 * 0x1a0;
		w[i + 2] = 0x7f3a2c000000 + contents_random(state) % (1 << 20) * 16;
		w[i + 3] = contents_random(state) % 4 ? 0 : contents_random(state) % 100000;
	}
}

static inline void contents_structs(uint64_t *w, uint64_t *state)
{
	memset(w, 0, CONTENTS_PAGE);
	for (unsigned int i = 0; i < CONTENTS_PAGE / 8; i += 12) {
		w[i] = contents_random(state) % 1000;
		if (i + 3 < CONTENTS_PAGE / 8)
			w[i + 3] = 0x561200000000 + contents_random(state) % (1 << 16) * 64;
	}
}

/* Fill @page with content of a kind; @tag makes it another than that of other tags. */
static inline void contents_fill(void *page, enum contents kind, uint64_t tag)
{
	uint64_t state = (tag + 1) * 0x9e3779b97f4a7c15ULL, *w = page;

	switch (kind) {
	case CONTENTS_ZERO:
		memset(page, 0, CONTENTS_PAGE);
		break;
	case CONTENTS_TEXT:
		contents_text(page, &state);
		break;
	case CONTENTS_HEAP:
		contents_heap(w, &state);
		break;
	case CONTENTS_STRUCTS:
		contents_structs(w, &state);
		break;
	default:
		for (unsigned int i = 0; i < CONTENTS_PAGE / 8; i++) {
			uint64_t r = contents_random(&state);

			w[i] = kind == CONTENTS_SAME ? state = (tag + 1) * 0x9e3779b97f4a7c15ULL :
			       kind == CONTENTS_NUMBERS ? 0x3ff0000000000000 | r >> 12 :
							  r;
		}
	}
}

/* What page @tag of a program has, on average: a tenth can't be compressed. */
static inline enum contents contents_of(uint64_t tag)
{
	static const enum contents mix[20] = {
		CONTENTS_TEXT, CONTENTS_HEAP,	 CONTENTS_HEAP, CONTENTS_STRUCTS, CONTENTS_ZERO,
		CONTENTS_HEAP, CONTENTS_TEXT,	 CONTENTS_HEAP, CONTENTS_RANDOM,  CONTENTS_STRUCTS,
		CONTENTS_TEXT, CONTENTS_HEAP,	 CONTENTS_SAME, CONTENTS_STRUCTS, CONTENTS_HEAP,
		CONTENTS_TEXT, CONTENTS_NUMBERS, CONTENTS_HEAP, CONTENTS_ZERO,	  CONTENTS_TEXT,
	};

	return mix[tag % 20];
}

#endif
