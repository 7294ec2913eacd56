// SPDX-License-Identifier: MIT
/* fuzz_mm: the plain copy of what each byte must be. */
#include "tests/stress/fuzz_mm.h"

/* Says where the word belongs, so that a wrong word tells what was found instead. */
static uint64_t word(uint32_t tag, unsigned int k)
{
	return tag ? (uint64_t)tag << 32 | ((tag * 2654435761u) ^ k) : 0;
}

uint32_t new_tag(struct worker *w)
{
	w->next_tag = (w->next_tag + 1) & 0xffffff;
	if (!w->next_tag)
		w->next_tag = 1;
	return (uint32_t)(w->id + 1) << 24 | w->next_tag;
}

uint32_t new_vma(struct worker *w)
{
	return ++w->next_vma;
}

void fill_chunk(void *to, uint32_t tag, unsigned int chunk)
{
	volatile uint64_t *v = to;
	unsigned int k0 = chunk * CHUNK / 8;

	for (unsigned int k = 0; k < CHUNK / 8; k++)
		v[k] = word(tag, k0 + k);
}

/* --- checking --- */

static void __attribute__((noreturn))
wrong(struct worker *w, struct zone *z, unsigned int i, const volatile uint64_t *word_at,
      unsigned int k, uint64_t got)
{
	const struct page *p = pg(w, z, i);
	uint64_t want = word(p->tag[k / (CHUNK / 8)], k);
	const char *addr = at(z, i) + k * 8;
	uint32_t tag = got >> 32;
	char what[128] = "no content of anybody";
	uint64_t later;

	if (!got)
		snprintf(what, sizeof(what), "zeros");
	else if (word(tag, k) == got)
		snprintf(what, sizeof(what), "write %u of %s %u", tag & 0xffffff,
			 (tag >> 24) - 1 < THREADS ? "thread" : "child",
			 (tag >> 24) - 1 < THREADS ? (tag >> 24) - 1 : (tag >> 24) - 1 - THREADS);
	usleep(100000);
	later = *word_at;
	broken(w, addr,
	       "page %u of a zone of %u, word %u is %#llx (%s; 0.1 s later %#llx), "
	       "not %#llx (write %u)%s%s",
	       i, z->nr, k, (unsigned long long)got, what, (unsigned long long)later,
	       (unsigned long long)want, p->tag[k / (CHUNK / 8)] & 0xffffff,
	       p->flags & P_LAZY ? ", after MADV_FREE" : "",
	       (const char *)word_at == addr ? "" : ", as the kernel read it");
}

/* Chunks that were zeros or what they were: the first of them tells which. */
static void decide(struct page *p, const volatile uint64_t *v)
{
	unsigned int c = __builtin_ctz(p->either);

	if (!v[c * CHUNK / 8] && p->tag[c]) {
		for (c = 0; c < CHUNKS; c++)
			if (p->either >> c & 1)
				p->tag[c] = 0;
		p->either = 0;
		p->flags &= ~P_LAZY;
	} else if (!(p->flags & P_LAZY)) {
		p->either = 0;
	}
}

/* @data: the page itself, or what the kernel read of it. */
void check_at(struct worker *w, struct zone *z, unsigned int i, const void *data)
{
	const volatile uint64_t *v = data;
	struct page *p = pg(w, z, i);

	alive(w);
	if (p->either)
		decide(p, v);
	for (unsigned int k = 0; k < PAGE / 8; k++) {
		uint64_t got = v[k];

		if (got == word(p->tag[k / (CHUNK / 8)], k))
			continue;
		/* dropped while it was being read */
		if (!got && p->flags & P_LAZY && p->either >> k / (CHUNK / 8) & 1) {
			decide(p, v);
			if (!p->either && v[k] == word(p->tag[k / (CHUNK / 8)], k))
				continue;
		}
		wrong(w, z, i, &v[k], k, got);
	}
}

void check_page(struct worker *w, struct zone *z, unsigned int i)
{
	unsigned int flags = pg(w, z, i)->flags;

	if ((flags & (P_MAPPED | P_READ | P_GUARD)) == (P_MAPPED | P_READ))
		check_at(w, z, i, at(z, i));
}

void check_zone(struct worker *w, struct zone *z)
{
	for (unsigned int i = 0; z->kind && i < z->nr; i++)
		check_page(w, z, i);
}

/* --- changing --- */

void wrote(struct page *p, unsigned int chunks, uint32_t tag)
{
	for (unsigned int c = 0; c < CHUNKS; c++)
		if (chunks >> c & 1)
			p->tag[c] = tag;
	p->either &= ~chunks;
	p->flags &= ~P_LAZY;
}

void write_page(struct worker *w, struct zone *z, unsigned int i, unsigned int chunks)
{
	uint32_t tag = new_tag(w);

	alive(w);
	for (unsigned int c = 0; c < CHUNKS; c++)
		if (chunks >> c & 1)
			fill_chunk(at(z, i) + c * CHUNK, tag, c);
	wrote(pg(w, z, i), chunks, tag);
}

/* The page's content is gone: zeros. */
void drop(struct page *p)
{
	memset(p->tag, 0, sizeof(p->tag));
	p->either = 0;
	p->flags &= ~P_LAZY;
}

/* Newly mapped, and never touched. */
void fresh(struct worker *w, struct run r, unsigned int flags)
{
	uint32_t vma = new_vma(w);

	for (unsigned int i = r.first; i < r.first + r.nr; i++) {
		struct page *p = pg(w, r.z, i);

		drop(p);
		p->flags = P_MAPPED | flags;
		p->vma = vma;
	}
}

/* Not mapped any more. */
void forget(struct worker *w, struct run r)
{
	for (unsigned int i = r.first; i < r.first + r.nr; i++) {
		drop(pg(w, r.z, i));
		pg(w, r.z, i)->flags = 0;
	}
	if (r.z->kind != Z_NATURAL)
		return;
	for (unsigned int i = 0; i < r.z->nr; i++)
		if (pg(w, r.z, i)->flags & P_MAPPED)
			return;
	r.z->kind = Z_NONE;
}

bool all(struct worker *w, struct run r, unsigned int mask, unsigned int want)
{
	for (unsigned int i = r.first; i < r.first + r.nr; i++)
		if ((pg(w, r.z, i)->flags & mask) != want)
			return false;
	return true;
}

bool one_vma(struct worker *w, struct run r)
{
	const struct page *p = pg(w, r.z, r.first);

	for (unsigned int i = r.first; i < r.first + r.nr; i++)
		if (!p->vma || pg(w, r.z, i)->vma != p->vma ||
		    (pg(w, r.z, i)->flags & P_VMA) != (p->flags & P_VMA))
			return false;
	return true;
}

/* A stretch of mapped pages, of any mapping of the thread's; none: nr is 0. */
struct run pick(struct worker *w, uint32_t a, uint32_t b, uint32_t c)
{
	struct run r = { 0 };
	unsigned int want;

	/* half of the time in the arena, where there is most to meet */
	for (unsigned int i = a & 1 ? 0 : a >> 1; i < (a >> 1) + ZONES; i++)
		if (w->zone[i % ZONES].kind) {
			r.z = &w->zone[i % ZONES];
			break;
		}
	if (!r.z)
		return r;
	r.first = b % r.z->nr;
	for (unsigned int i = 0; i < r.z->nr; i++, r.first = (r.first + 1) % r.z->nr)
		if (pg(w, r.z, r.first)->flags & P_MAPPED)
			break;
	if (c >> 30 == 3)	/* from its beginning: whole mappings, too */
		while (r.first && pg(w, r.z, r.first - 1)->flags & P_MAPPED)
			r.first--;
	switch (c >> 26 & 7) {
	case 0:
		want = c % r.z->nr + 1;
		break;
	case 1:
	case 2:
	case 3:
		want = c % 64 + 1;
		break;
	default:
		want = c % 8 + 1;
		break;
	}
	while (r.nr < want && r.first + r.nr < r.z->nr &&
	       pg(w, r.z, r.first + r.nr)->flags & P_MAPPED)
		r.nr++;
	return r;
}

struct zone *free_zone(struct worker *w)
{
	for (unsigned int i = 2; i < ZONES; i++)
		if (!w->zone[i].kind)
			return &w->zone[i];
	return NULL;
}
