/* SPDX-License-Identifier: MIT */
/*
 * What is in the pages.
 *
 * A word says which thread wrote it, for which page, and how often: so one that
 * is old, zero, or another page's is told from a good one.  In a common page
 * each thread has a word; its owner publishes the count after it has written the
 * word, so another thread knows between which two values it must be.  A page of
 * a window has one owner and four words, for a page that is torn.
 */
#include "tests/stress/lifetime.h"

#define ODD	0x9e3779b97f4a7c15ull

static uint64_t value(unsigned int id, size_t page, uint64_t counter)
{
	return counter ? (counter << 24 | (uint64_t)page << 8 | (id + 1)) * ODD : 0;
}

/* The counter in a word, or ~0: not this thread's word of this page. */
static uint64_t counter_of(uint64_t v, unsigned int id, size_t page)
{
	uint64_t inverse = ODD;

	for (int i = 0; i < 5; i++)	/* Newton: twice as many bits each time */
		inverse *= 2 - ODD * inverse;
	v *= inverse;
	if (!v)
		return 0;
	return (v & 0xffffff) == ((uint64_t)page << 8 | (id + 1)) ? v >> 24 : ~0ull;
}

static uint64_t *slot(const struct worker *of, size_t page)
{
	return (uint64_t *)(mem + page * PAGE) + of->id * 73;
}

/* --- common pages --- */

void verify_word(const struct worker *w, const struct worker *of, size_t page, uint64_t floor,
		 uint64_t ceiling)
{
	uint64_t got = __atomic_load_n(slot(of, page), __ATOMIC_RELAXED);
	uint64_t counter = counter_of(got, of->id, page);

	EXPECT(w, counter >= floor && counter <= ceiling && counter != ~0ull,
	       "common page %zu, thread %u's word is %#llx (counter %lld), not %llu..%llu; "
	       "read again: %#llx",
	       page, of->id, (unsigned long long)got, (long long)counter, (unsigned long long)floor,
	       (unsigned long long)ceiling,
	       (unsigned long long)__atomic_load_n(slot(of, page), __ATOMIC_RELAXED));
}

void verify_common(const struct worker *w, size_t page)
{
	uint64_t counter = __atomic_load_n(&w->common[page], __ATOMIC_RELAXED);

	verify_word(w, w, page, counter, counter);
}

void write_common(struct worker *w, size_t page)
{
	uint64_t counter = w->common[page] + 1;

	__atomic_store_n(slot(w, page), value(w->id, page, counter), __ATOMIC_RELAXED);
	/* pairs with the acquire of a thread that looks at another one's words */
	__atomic_store_n(&w->common[page], counter, __ATOMIC_RELEASE);
}

/* --- windows --- */

static const unsigned int own_word[] = { 0, 170, 341, 511 };

void verify_own_at(const struct worker *w, const struct own_page *p, const void *at)
{
	uint64_t want = value(w->id, p->tag, p->now);

	for (size_t k = 0; k < 4; k++) {
		uint64_t got = __atomic_load_n((const uint64_t *)at + own_word[k],
					       __ATOMIC_RELAXED);

		EXPECT(w, got == want,
		       "page %p (tag %u), word %u is %#llx (counter %lld), not "
		       "%#llx (counter %llu)",
		       at, p->tag, own_word[k], (unsigned long long)got,
		       (long long)counter_of(got, w->id, p->tag), (unsigned long long)want,
		       (unsigned long long)p->now);
	}
}

void verify_own(const struct worker *w, const struct window *win, size_t page)
{
	verify_own_at(w, &win->page[page], win->base + page * PAGE);
}

void write_own(struct window *win, size_t page)
{
	struct own_page *p = &win->page[page];
	uint64_t *at = (uint64_t *)(win->base + page * PAGE);
	const struct worker *w = worker;

	while (win < w->win || win >= w->win + WINDOWS)
		w++;
	p->now = ++p->last;
	for (size_t k = 0; k < 4; k++)
		__atomic_store_n(at + own_word[k], value(w->id, p->tag, p->now), __ATOMIC_RELAXED);
}

void verify_all(const struct worker *w)
{
	for (size_t p = 0; p < COMMON; p++)
		verify_common(w, p);
	for (size_t i = 0; i < WINDOWS; i++)
		for (size_t p = 0; p < w->win[i].pages; p++)
			verify_own(w, &w->win[i], p);
}

/* --- mapping, unmapping, moving --- */

static void set_place(struct window *win, char *base, unsigned int pages)
{
	__atomic_store_n(&win->base, base, __ATOMIC_RELAXED);
	__atomic_store_n(&win->pages, pages, __ATOMIC_RELAXED);
}

/* What is held of [addr, addr + pages) is not there any more, but at @to. */
void forget_place(struct worker *w, const char *addr, size_t pages, const char *to)
{
	for (unsigned int i = 0; i < w->nr_holds; i++) {
		struct hold *h = &w->hold[i];

		if (!h->addr || h->addr >= addr + pages * PAGE || h->addr + h->nr * PAGE <= addr)
			continue;
		if (to && h->addr >= addr && h->addr + h->nr * PAGE <= addr + pages * PAGE)
			h->addr += to - addr;
		else
			h->addr = NULL;
	}
}

static void fresh_pages(struct worker *w, struct window *win, unsigned int from, unsigned int to)
{
	for (unsigned int p = from; p < to; p++) {
		if (w->next_tag < COMMON)	/* those are the common pages' */
			w->next_tag = COMMON;
		win->page[p] = (struct own_page){ .tag = w->next_tag++ };
	}
}

void window_manage(struct worker *w, struct window *win)
{
	int rc = zd_mm_register(mm, win->base, win->pages * PAGE);

	EXPECT(w, !rc, "zd_mm_register(%p, %u pages): %d", win->base, win->pages, rc);
	win->loose = false;
}

void window_map(struct worker *w, struct window *win, unsigned int pages, bool same_place)
{
	char *p = MAP_FAILED;

	/* where something was unmapped a moment ago, if the place is still free */
	if (same_place && win->last)
		p = mmap(win->last, pages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (p == MAP_FAILED)
		p = map(pages);
	fresh_pages(w, win, 0, pages);
	set_place(win, p, pages);
	window_manage(w, win);
}

/* Unmap that many pages at the two ends. */
void window_cut(struct worker *w, struct window *win, unsigned int front, unsigned int back)
{
	char *base = win->base;
	unsigned int pages = win->pages, left = pages - front - back;

	/* before: afterwards another thread's mapping may be there */
	set_place(win, left ? base + front * PAGE : NULL, left);
	win->last = base;
	if (front) {
		EXPECT(w, !munmap(base, front * PAGE), "munmap: %d", errno);
		forget_place(w, base, front, NULL);
		memmove(win->page, win->page + front, left * sizeof(win->page[0]));
	}
	if (back) {
		char *end = base + (pages - back) * PAGE;

		EXPECT(w, !munmap(end, back * PAGE), "munmap: %d", errno);
		forget_place(w, end, back, NULL);
	}
}

void window_drop(struct worker *w, struct window *win, unsigned int first, unsigned int nr)
{
	char *at = win->base + first * PAGE;

	EXPECT(w, !madvise(at, nr * PAGE, MADV_DONTNEED), "madvise: %d", errno);
	forget_place(w, at, nr, NULL);
	for (unsigned int p = first; p < first + nr; p++)
		win->page[p].now = 0;
}

/* Over another window of the thread's: what it had there is gone. */
static char *place_over(struct worker *w, struct window *win, struct window *over)
{
	char *to = over->base;

	forget_place(w, to, win->pages, NULL);
	memmove(over->page, over->page + win->pages,
		(over->pages - win->pages) * sizeof(over->page[0]));
	set_place(over, over->pages > win->pages ? to + win->pages * PAGE : NULL,
		  over->pages - win->pages);
	return to;
}

static void move(struct worker *w, struct window *win, struct window *over)
{
	unsigned int pages = win->pages;
	char *from = win->base, *to;

	if (over != win && over->pages >= pages)
		to = place_over(w, win, over);
	else
		to = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(w, to != MAP_FAILED, "mmap: %d", errno);
	set_place(win, NULL, 0);
	EXPECT(w, mremap(from, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to,
	       "mremap of %u pages from %p to %p: %d", pages, from, to, errno);
	forget_place(w, from, pages, to);
	win->last = from;
	set_place(win, to, pages);
}

static void resize(struct worker *w, struct window *win, unsigned int pages, bool manage)
{
	unsigned int old = win->pages;
	char *from = win->base, *to;

	set_place(win, NULL, 0);
	to = mremap(from, old * PAGE, pages * PAGE, MREMAP_MAYMOVE);
	EXPECT(w, to != MAP_FAILED, "mremap from %u to %u pages at %p: %d", old, pages, from,
	       errno);
	if (pages < old)
		forget_place(w, from + pages * PAGE, old - pages, NULL);
	else
		fresh_pages(w, win, old, pages);
	if (to != from)
		forget_place(w, from, old, to);
	set_place(win, to, pages);
	/* what has been added is managed by the kernel alone, for now */
	if (pages > old)
		win->loose = true;
	if (win->loose && manage)
		window_manage(w, win);
}

void window_remap(struct worker *w, struct window *win, const struct op *op)
{
	if (op->b & 1)
		move(w, win, &w->win[op->c % WINDOWS]);
	else
		resize(w, win, 1 + op->c % WIN_MAX, op->d & 1);
	/* a moved page's descriptor is right when its event has been looked at */
	stats(mm);
}
