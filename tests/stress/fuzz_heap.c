// SPDX-License-Identifier: MIT
/* fuzz_mm: malloc and its kin, brk. */
#include "tests/stress/fuzz_mm.h"

#define SMALL		256	/* words: from an arena */
#define MIDDLE		4096	/* words: around the threshold, and mapped */
#define LARGE		40000	/* words */

static uint64_t word(uint32_t tag, size_t k)
{
	return (uint64_t)tag << 32 | ((tag * 2654435761u) ^ (uint32_t)k);
}

static size_t draw_words(uint32_t c)
{
	switch (c % 16) {
	case 0:
	case 1:
	case 2:
		return (c >> 4) % SMALL + 1;
	case 15:
		return (c >> 4) % LARGE + 1;
	default:
		return (c >> 4) % MIDDLE + 1;
	}
}

static void check_words(struct worker *w, struct block *b, size_t words)
{
	const volatile uint64_t *v = b->mem;

	alive(w);
	for (size_t k = 0; k < words; k++) {
		uint64_t got = v[k];

		if (got == word(b->tag, k))
			continue;
		usleep(100000);
		broken(w, (const void *)&v[k],
		       "block of %zu words at %p, word %zu is %#llx (0.1 s "
		       "later %#llx), not %#llx",
		       b->words, (const void *)v, k, (unsigned long long)got,
		       (unsigned long long)v[k], (unsigned long long)word(b->tag, k));
	}
}

static void fill(struct worker *w, struct block *b, void *mem, size_t words)
{
	volatile uint64_t *v = mem;

	if (!mem)
		broken(w, NULL, "malloc of %zu: %m", words * 8);
	b->mem = mem;
	b->words = words;
	b->tag = new_tag(w);
	for (size_t k = 0; k < words; k++)
		v[k] = word(b->tag, k);
}

static void let_go(struct worker *w, struct block *b)
{
	if (!b->mem)
		return;
	check_words(w, b, b->words);
	note(w, "free", b->mem, NULL, b->words * 8, 0);
	free(b->mem);
	b->mem = NULL;
}

static void resize(struct worker *w, struct block *b, size_t words)
{
	volatile uintptr_t from = (uintptr_t)b->mem;	/* only to be told */
	void *mem = realloc(b->mem, words * 8);
	size_t least = words < b->words ? words : b->words;

	note(w, "realloc", (void *)from, mem, words * 8, 0);
	b->mem = mem;
	if (mem)
		check_words(w, b, least);
	fill(w, b, mem, words);
}

static void one(struct worker *w, struct block *b, unsigned int how, size_t words)
{
	void *mem;

	if (how >= 4 && b->mem) {
		resize(w, b, words);
		return;
	}
	let_go(w, b);
	switch (how) {
	case 0:
		return;
	case 1:
		mem = calloc(words, 8);
		for (size_t k = 0; mem && k < words; k++)
			if (((volatile uint64_t *)mem)[k])
				broken(w, (char *)mem + k * 8,
				       "calloc of %zu words at %p: word %zu "
				       "is %#llx",
				       words, mem, k,
				       (unsigned long long)((volatile uint64_t *)mem)[k]);
		note(w, "calloc", NULL, mem, words * 8, 0);
		break;
	case 2:
		mem = aligned_alloc(4096, words * 8);
		note(w, "aligned_alloc", NULL, mem, words * 8, 0);
		break;
	default:
		mem = malloc(words * 8);
		note(w, "malloc", NULL, mem, words * 8, 0);
		break;
	}
	fill(w, b, mem, words);
}

void op_malloc(struct worker *w, const struct op *op)
{
	uint64_t rng = (uint64_t)op->c << 32 | op->d | 1;

	for (unsigned int i = 0; i < op->a % 8 + 1; i++)
		one(w, &w->block[rnd(&rng) % BLOCKS], rnd(&rng) % 8, draw_words(rnd(&rng)));
	if (op->b % 64 == 0) {
		malloc_trim(0);
		note(w, "malloc_trim", NULL, NULL, 0, 0);
	}
}

void check_blocks(struct worker *w)
{
	for (unsigned int i = 0; i < BLOCKS; i++)
		if (w->block[i].mem)
			check_words(w, &w->block[i], w->block[i].words);
}

void free_blocks(struct worker *w)
{
	for (unsigned int i = 0; i < BLOCKS; i++)
		let_go(w, &w->block[i]);
}

/* Zone 1 is the thread's that has the heap: its end goes up and down. */
void op_brk(struct worker *w, const struct op *op)
{
	struct zone *z = &w->zone[1];
	unsigned int now = 0, nr = op->a % (NATURAL + 1);
	int rc;

	if (z->kind != Z_HEAP)
		return;
	while (now < NATURAL && pg(w, z, now)->flags & P_MAPPED)
		now++;
	/* a child has holes below the break (DONTFORK); malloc may have moved it */
	if (sbrk(0) != at(z, now))
		return;
	if (op->b & 1)	/* a little */
		nr = op->a & 1 ? now + op->a % 32 : now - (now < op->a % 32 ? now : op->a % 32);
	if (nr > NATURAL)
		nr = NATURAL;
	rc = brk(at(z, nr)) ? errno : 0;
	note(w, "brk", at(z, nr < now ? nr : now), NULL, (nr < now ? now - nr : nr - now) * PAGE,
	     rc);
	expect_result(w, "brk", at(z, nr), rc, 0);
	if (nr < now)
		forget(w, (struct run){ z, nr, now - nr });
	else if (nr > now)
		fresh(w, (struct run){ z, now, nr - now }, P_RW);
}
