/* SPDX-License-Identifier: MIT */
/*
 * Between rounds nothing moves, and everything can be counted:
 *
 *  - every device page that memory is on has a count of one; there are no other
 *    live ones but the anchor; and all the rest of the device can be allocated;
 *  - every page of memory holds what was written to it last;
 *  - the count of every page in RAM is one for its mapping and what the threads
 *    have of it, to the last reference; and of one whose mapping is gone, just
 *    what the threads have;
 *  - a held page stays in RAM when everything is sent out.
 *
 * A forked child's end is noticed by a timer, so its references may last for a
 * moment: those are waited for.
 */
#include "tests/stress/lifetime.h"

#define CHUNK	64

/* --- the ranges: the common one, and each window --- */

struct part {
	char *addr;
	size_t pages;
	struct worker *w;
	struct window *win;
};

static size_t parts(struct part *v)
{
	size_t nr = 0;

	v[nr++] = (struct part){ .addr = mem, .pages = COMMON };
	for (size_t t = 0; t < THREADS; t++)
		for (size_t i = 0; i < WINDOWS; i++) {
			struct window *win = &worker[t].win[i];

			if (win->pages)
				v[nr++] = (struct part){ win->base, win->pages, &worker[t], win };
		}
	return nr;
}

#define MAX_PARTS	(1 + THREADS * WINDOWS)

/* --- references that the threads have --- */

struct ref {
	struct zd_page *page;
	uint32_t refs;
	bool mapped;
};

static struct ref refs[THREADS * HOLDS * HOLD_MAX];
static size_t nr_refs;

static int by_page(const void *a, const void *b)
{
	const struct ref *x = a, *y = b;

	return x->page < y->page ? -1 : x->page > y->page;
}

static void collect_refs(void)
{
	size_t kept = 0;

	nr_refs = 0;
	for (size_t t = 0; t < THREADS; t++)
		for (unsigned int i = 0; i < worker[t].nr_holds; i++) {
			const struct hold *h = &worker[t].hold[i];

			for (unsigned int k = 0; k < h->nr; k++)
				refs[nr_refs++] = (struct ref){ h->page[k], h->refs, false };
		}
	qsort(refs, nr_refs, sizeof(refs[0]), by_page);
	for (size_t i = 0; i < nr_refs; i++) {
		if (kept && refs[kept - 1].page == refs[i].page)
			refs[kept - 1].refs += refs[i].refs;
		else
			refs[kept++] = refs[i];
	}
	nr_refs = kept;
}

static struct ref *refs_of(struct zd_page *page)
{
	struct ref key = { .page = page };

	return bsearch(&key, refs, nr_refs, sizeof(refs[0]), by_page);
}

/* --- the device --- */

/* Pages of memory that are on the device; false: some is shared, as it seems. */
static bool count_mapped(const struct part *v, size_t nr, uint64_t *mapped)
{
	static zd_pfn_t pfn[COMMON];

	*mapped = 0;
	for (size_t i = 0; i < nr; i++) {
		int rc = zd_migrate_device_pfns(mm, v[i].addr, v[i].pages * PAGE, pfn, v[i].pages);

		EXPECT(v[i].w, !rc, "zd_migrate_device_pfns(%p, %zu pages): %d", v[i].addr,
		       v[i].pages, rc);
		for (size_t p = 0; p < v[i].pages; p++) {
			if (pfn[p] && zd_page_count(zd_pfn_to_page(pfn[p])) != 1)
				return false;
			*mapped += pfn[p] != 0;
		}
	}
	return true;
}

static bool device_counts(const struct part *v, size_t nr, const struct lent *l, bool tell)
{
	uint64_t mapped, live = l ? zd_device_live_pages(l->dev) : 0;
	uint64_t known = stats(mm).pages_device;
	bool once = count_mapped(v, nr, &mapped);

	if (once && known == mapped && live == mapped + (l != NULL) &&
	    (!l || zd_page_count(l->anchor) == 1))
		return true;
	EXPECT(NULL, !tell,
	       "%llu pages are on the device%s; it has %llu live ones with the "
	       "anchor (count %u), and the mm knows of %llu",
	       (unsigned long long)mapped, once ? "" : ", and one is still shared",
	       (unsigned long long)live, l ? zd_page_count(l->anchor) : 0,
	       (unsigned long long)known);
	return false;
}

/* What isn't live must be there to be allocated. */
static uint64_t allocatable(struct zd_device *dev)
{
	static zd_pfn_t pfn[4096];
	uint64_t got = 0;
	int n;

	EXPECT(NULL, dev->nr_pages <= 4096, "a device of %llu pages",
	       (unsigned long long)dev->nr_pages);
	while (got < dev->nr_pages &&
	       (n = dev->ops->alloc_pages(dev, dev->nr_pages - got, pfn + got)) > 0)
		got += n;
	dev->ops->unalloc_pages(dev, got, pfn);
	return got;
}

static void check_device(const struct part *v, size_t nr)
{
	const struct lent *l = the_device();
	double until = now() + PATIENCE;
	uint64_t live;

	while (!device_counts(v, nr, l, now() > until))
		usleep(5000);
	if (!l)
		return;
	live = zd_device_live_pages(l->dev);
	while (allocatable(l->dev) + live != l->dev->nr_pages) {
		EXPECT(NULL, now() < until,
		       "of %llu device pages %llu are live, and only %llu "
		       "are free",
		       (unsigned long long)l->dev->nr_pages, (unsigned long long)live,
		       (unsigned long long)allocatable(l->dev));
		usleep(5000);
	}
}

/* --- memory --- */

static void check_content(const struct part *v, size_t nr, bool fetch)
{
	for (size_t i = 0; fetch && i < nr; i++) {
		int rc = zd_migrate_to_ram(mm, v[i].addr, v[i].pages * PAGE, NULL);

		EXPECT(v[i].w, !rc, "zd_migrate_to_ram: %d", rc);
	}
	for (size_t t = 0; t < THREADS; t++)
		verify_all(&worker[t]);
}

static void check_mapped(const struct part *v, size_t first, size_t nr)
{
	char *addr = v->addr + first * PAGE;
	struct zd_page *page[CHUNK];
	long n = zd_get_user_pages_fast(mm, addr, nr, 0, page);

	EXPECT(v->w, n == (long)nr, "getting %zu pages at %p: %ld", nr, addr, n);
	for (size_t i = 0; i < nr; i++) {
		struct ref *r = refs_of(page[i]);
		uint32_t want = 2 + (r ? r->refs : 0), count = zd_page_count(page[i]);

		EXPECT(v->w, count == want, "page %p, pfn %#llx: count %u, not %u", addr + i * PAGE,
		       (unsigned long long)zd_page_to_pfn(page[i]), count, want);
		EXPECT(v->w, zd_page_address(page[i]) == addr + i * PAGE,
		       "page %p, pfn %#llx says that it is at %p", addr + i * PAGE,
		       (unsigned long long)zd_page_to_pfn(page[i]), zd_page_address(page[i]));
		if (r)
			r->mapped = true;
		zd_put_page(page[i]);
	}
}

static void check_counts(const struct part *v, size_t nr)
{
	collect_refs();
	for (size_t i = 0; i < nr; i++)
		for (size_t p = 0; p < v[i].pages; p += CHUNK)
			check_mapped(&v[i], p, v[i].pages - p < CHUNK ? v[i].pages - p : CHUNK);
	for (size_t i = 0; i < nr_refs; i++)
		EXPECT(NULL, refs[i].mapped || zd_page_count(refs[i].page) == refs[i].refs,
		       "pfn %#llx, not mapped any more: count %u, and %u are held",
		       (unsigned long long)zd_page_to_pfn(refs[i].page),
		       zd_page_count(refs[i].page), refs[i].refs);
	for (size_t t = 0; t < THREADS; t++)
		for (unsigned int i = 0; i < worker[t].nr_holds; i++)
			hold_check(&worker[t], &worker[t].hold[i]);
}

/* All memory goes out, as far as the device takes it; what is held stays. */
static void send_out(const struct part *v, size_t nr)
{
	const struct lent *l = the_device();

	for (size_t i = 0; l && i < nr; i++) {
		struct zd_migrate_result r;
		int rc = zd_migrate_to_device(mm, v[i].addr, v[i].pages * PAGE, l->dev, &r);

		EXPECT(v[i].w, !rc, "zd_migrate_to_device: %d", rc);
		worker[0].did.moved += r.moved;
	}
	for (size_t t = 0; t < THREADS; t++)
		for (unsigned int i = 0; i < worker[t].nr_holds; i++)
			hold_check(&worker[t], &worker[t].hold[i]);
}

void check_everything(uint64_t *rng)
{
	struct part v[MAX_PARTS];
	size_t nr = parts(v);

	for (size_t i = 1; i < nr; i++)
		if (v[i].win->loose)
			window_manage(v[i].w, v[i].win);
	check_device(v, nr);
	check_content(v, nr, rnd(rng) & 1);
	check_counts(v, nr);
	if (rnd(rng) & 1) {
		send_out(v, nr);
		check_device(v, nr);
	}
}

/* The end: refused as long as a page is held, and complete when none is. */
void close_everything(uint64_t *rng)
{
	struct part v[MAX_PARTS];
	size_t nr = parts(v);
	bool held = false;
	int rc;

	if (rnd(rng) & 1)
		end_device();
	for (size_t t = 0; t < THREADS; t++)
		held |= worker[t].nr_holds;
	if (held) {
		rc = zd_mm_close(mm);
		EXPECT(NULL, rc == -EBUSY, "zd_mm_close while pages are held: %d", rc);
		check_content(v, nr, false);
	}
	for (size_t t = 0; t < THREADS; t++)
		while (worker[t].nr_holds)
			hold_release(&worker[t], worker[t].nr_holds - 1, rnd(rng));
	rc = zd_mm_close(mm);
	EXPECT(NULL, !rc, "zd_mm_close: %d", rc);
	check_content(v, nr, false);
	end_device();
	for (size_t i = 0; i < nr; i++)
		munmap(v[i].addr, v[i].pages * PAGE);
}
