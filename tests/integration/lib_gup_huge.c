/* SPDX-License-Identifier: MIT */
/*
 * Huge pages that are pinned as a whole: one count for all of their pages, which
 * holds all of them until the last pin is gone, whatever becomes of the mapping.
 */
#include "tests/integration/lib_huge.h"

#define HP	512			/* pages of a huge page */
#define N	(2 * HP)
#define THREADS	3

static struct zd_page *pages[N], *again[N];

static uint32_t folio_count(const struct zd_page *page)
{
	CHECK(page->pgmap_id & ZD_PAGE_FOLIO);
	return zd_page_count(zd_page_folio_(page));
}

static bool is_folio(const struct zd_page *page)
{
	return page->pgmap_id & ZD_PAGE_FOLIO;
}

/* Two huge pages, managed. */
static char *managed(struct zd_mm *mm, uint64_t tag)
{
	char *p = map_huge(2, tag);

	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	return p;
}

static void pin(struct zd_mm *mm, char *mem, size_t nr, struct zd_page **to)
{
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, nr, ZD_FOLL_WRITE, to), nr);
	for (size_t i = 0; i < nr; i++)
		CHECK(zd_page_address(to[i]) == mem + i * PAGE);
}

/* Of the pages that are in RAM at @mem, @pinned stay and @moved go to the device. */
static void try_out(struct zd_mm *mm, void *mem, size_t nr, struct zd_device *dev, size_t pinned,
		    size_t moved)
{
	struct zd_migrate_result r;

	CHECK_EQ(zd_migrate_to_device(mm, mem, nr * PAGE, dev, &r), 0);
	CHECK_EQ(r.pinned, pinned);
	CHECK_EQ(r.moved, moved);
	CHECK_EQ(r.busy, 0);
}

static void one_count(struct zd_mm *mm, struct zd_device *dev)
{
	char *mem = managed(mm, 1);

	pin(mm, mem, N, pages);
	for (size_t i = 0; i < N; i++) {
		CHECK_EQ(zd_page_count(pages[i]), 1);
		CHECK(pages[i] == pages[i / HP * HP] + i % HP);
		CHECK(zd_page_maybe_dma_pinned(pages[i]));
	}
	CHECK_EQ(folio_count(pages[0]), 1 + HP * ZD_FOLIO_PIN);
	CHECK_EQ(folio_count(pages[HP]), 1 + HP * ZD_FOLIO_PIN);
	/* a piece across both, by another holder */
	pin(mm, mem + 500 * PAGE, 20, again);
	CHECK(again[0] == pages[500] && again[19] == pages[519]);
	CHECK_EQ(folio_count(pages[0]), 1 + (HP + 12) * ZD_FOLIO_PIN);
	try_out(mm, mem, N, dev, N, 0);
	zd_unpin_user_pages(pages, N);
	CHECK_EQ(folio_count(pages[HP]), 1 + 8 * ZD_FOLIO_PIN);
	zd_unpin_user_pages(again + 12, 8);
	CHECK(!zd_page_maybe_dma_pinned(pages[HP]));
	CHECK(zd_page_maybe_dma_pinned(pages[0]));
	try_out(mm, mem, N, dev, HP, HP);
	zd_unpin_user_pages_dirty_lock(again, 12, true);
	try_out(mm, mem, N, dev, 0, HP);
	CHECK_FILLED(mem, N, 1);
}

/* Unpinned one by one, in no order: the last one counts. */
static void one_left(struct zd_mm *mm, struct zd_device *dev, uint64_t *rng)
{
	char *mem = managed(mm, 2);
	size_t left = HP;

	pin(mm, mem, HP, pages);
	memcpy(again, pages, sizeof(pages));
	while (left > 1) {
		size_t i = rnd(rng) % left;

		zd_unpin_user_page(again[i]);
		again[i] = again[--left];
	}
	try_out(mm, mem, HP, dev, HP, 0);
	zd_unpin_user_page(again[0]);
	try_out(mm, mem, HP, dev, 0, HP);
	CHECK_FILLED(mem, N, 2);
}

/* Pages that are unmapped stay the holder's; the others stay where they are. */
static void unmapped(struct zd_mm *mm, struct zd_device *dev)
{
	char *mem = managed(mm, 3), *next;
	struct zd_page *other;

	pin(mm, mem, HP, pages);
	CHECK(!munmap(mem, 100 * PAGE));
	try_out(mm, mem + 100 * PAGE, HP - 100, dev, HP - 100, 0);
	CHECK_EQ(folio_count(pages[0]), 1 + HP * ZD_FOLIO_PIN);
	/* the unmapped ones are let go: the others are pinned still */
	zd_unpin_user_pages(pages, 100);
	try_out(mm, mem + 100 * PAGE, HP - 100, dev, HP - 100, 0);
	/* what is left of the huge page is one run */
	pin(mm, mem + 100 * PAGE, HP - 100, again);
	CHECK(again[0] == pages[100]);
	zd_unpin_user_pages(again, HP - 100);
	/* another mapping comes to where the first pages were, and stays apart */
	CHECK(mmap(mem, 100 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == mem);
	fill(mem, 100, 3);
	CHECK_EQ(zd_mm_register(mm, mem, 100 * PAGE), 0);
	pin(mm, mem + 3 * PAGE, 1, &other);
	zd_unpin_user_pages(pages + 100, HP - 100);
	try_out(mm, mem + 100 * PAGE, HP - 100, dev, 0, HP - 100);
	try_out(mm, mem, 100, dev, 1, 99);
	zd_unpin_user_page(other);
	CHECK_FILLED(mem, N, 3);

	/* all of it unmapped while pinned: its descriptors are not used again meanwhile */
	mem += HUGE;
	pin(mm, mem, HP, pages);
	CHECK(!munmap(mem, HUGE));
	CHECK_EQ(zd_mm_close(mm), -EBUSY);
	next = managed(mm, 4);
	pin(mm, next, HP, again);
	CHECK(again[0] != pages[0]);
	CHECK(zd_page_maybe_dma_pinned(pages[7]));
	zd_unpin_user_pages(pages, HP);
	zd_unpin_user_pages(again, HP);
	/* and are used again afterwards */
	pin(mm, next + HUGE, HP, again);
	CHECK(again[0] == pages[0]);
	zd_unpin_user_pages(again, HP);
	try_out(mm, next, N, dev, 0, N);
	CHECK_FILLED(next, N, 4);
}

/* A get counts in its page, and holds the others as well. */
static void got(struct zd_mm *mm, struct zd_device *dev)
{
	char *mem = managed(mm, 5), *next;

	pin(mm, mem, HP, pages);
	zd_unpin_user_pages(pages, HP);
	CHECK_EQ(zd_get_user_pages_fast(mm, mem + 9 * PAGE, 1, 0, again), 1);
	CHECK(again[0] == pages[9]);
	CHECK_EQ(zd_page_count(again[0]), 2);
	CHECK(!zd_page_maybe_dma_pinned(again[0]));
	try_out(mm, mem, HP, dev, HP, 0);
	CHECK_EQ(zd_page_count(pages[8]), 1);
	CHECK_EQ(folio_count(pages[0]), 1);
	zd_put_page(again[0]);
	try_out(mm, mem, HP, dev, 0, HP);

	/* unmapped, and only the page that was got lives: its block isn't given out */
	mem += HUGE;
	pin(mm, mem, HP, pages);
	CHECK_EQ(zd_get_user_pages_fast(mm, mem + 9 * PAGE, 1, 0, again), 1);
	zd_unpin_user_pages(pages, HP);
	CHECK(!munmap(mem, HUGE));
	CHECK_EQ(zd_mm_close(mm), -EBUSY);
	CHECK_EQ(zd_page_count(again[0]), 1);
	CHECK(!zd_page_maybe_dma_pinned(again[0]));
	next = managed(mm, 6);
	pin(mm, next, HP, pages);
	CHECK(again[0] < pages[0] || again[0] > pages[HP - 1]);
	zd_put_page(again[0]);
	zd_unpin_user_pages(pages, HP);
	try_out(mm, next, N, dev, 0, N);
	CHECK_FILLED(next, N, 6);
}

/* A part moves elsewhere: still one count for all. */
static void moved(struct zd_mm *mm, struct zd_device *dev)
{
	char *mem = managed(mm, 7), *to = map(HP);

	pin(mm, mem, HP, pages);
	CHECK(mremap(mem, 300 * PAGE, 300 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	/* the event is read before this program's next call is served */
	CHECK_EQ(zd_pin_user_pages_fast(mm, to, 300, 0, again), 300);
	CHECK(again[0] == pages[0] && again[299] == pages[299]);
	for (size_t i = 0; i < HP; i++)
		CHECK(zd_page_address(pages[i]) == (i < 300 ? to : mem) + i * PAGE);
	zd_unpin_user_pages(pages, HP);
	try_out(mm, to, 300, dev, 300, 0);
	try_out(mm, mem + 300 * PAGE, HP - 300, dev, HP - 300, 0);
	zd_unpin_user_pages(again, 300);
	try_out(mm, mem + 300 * PAGE, HP - 300, dev, 0, HP - 300);
	/* that let go of the descriptors at the new place, too */
	try_out(mm, to, 300, dev, 0, 300);
	CHECK_EQ(bad_page(mem, 300, N, 7), N);
	CHECK_EQ(bad_page(to, 0, 300, 7), 300);
	munmap(to, HP * PAGE);
}

/* Only a huge page, and only one that is asked for as a whole. */
static void no_folio(struct zd_mm *mm, struct zd_device *dev)
{
	char *mem = managed(mm, 8);

	pin(mm, mem + 100 * PAGE, HP + 400, pages);
	CHECK(!is_folio(pages[0]) && !is_folio(pages[HP + 399]));
	zd_unpin_user_pages(pages + 1, HP + 399);
	try_out(mm, mem, N, dev, 1, N - 1);
	/* the memory is of small pages now; one of them is held */
	pin(mm, mem, N, pages);
	for (size_t i = 0; i < N; i++)
		CHECK(!is_folio(pages[i]));
	zd_unpin_user_pages(pages, N);
	try_out(mm, mem, N, dev, 1, N - 1);
	zd_unpin_user_page(pages[100]);
	CHECK_FILLED(mem, N, 8);

	/* unaligned, with a whole huge page in the middle; a part of it had descriptors, none of
	 * which is held */
	mem = map_huge(3, 9);
	CHECK_EQ(zd_mm_register(mm, mem, 3 * HUGE), 0);
	pin(mm, mem + 600 * PAGE, 10, pages);
	zd_unpin_user_pages(pages, 10);
	pin(mm, mem + 200 * PAGE, N, pages);
	CHECK(!is_folio(pages[HP - 201]) && is_folio(pages[HP - 200]));
	CHECK(is_folio(pages[N - 201]) && !is_folio(pages[N - 200]));
	zd_unpin_user_pages(pages, N);
	/* and with one that is held */
	try_out(mm, mem, N / 2, dev, 0, N / 2);
	pin(mm, mem + (2 * HP + 5) * PAGE, 1, again);
	pin(mm, mem + 2 * HUGE, HP, pages);
	CHECK(!is_folio(pages[0]) && again[0] == pages[5]);
	zd_unpin_user_pages(pages, HP);
	try_out(mm, mem + HUGE, N, dev, 1, N - 1);
	zd_unpin_user_page(again[0]);
	CHECK_FILLED(mem, 3 * HP, 9);
	munmap(mem, 3 * HUGE);
}

/* A count that is nearly full takes no more, and says so. */
static void too_many(struct zd_mm *mm)
{
	const uint32_t most = INT32_MAX - 1000;
	struct zd_page *folio;
	char *mem = managed(mm, 10);

	pin(mm, mem, HP, pages);
	folio = zd_page_folio_(pages[0]);
	CHECK(zd_try_get_page_refs(folio, most - zd_page_count(folio)));
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, HP, 0, again), -ENOMEM);
	CHECK_EQ(zd_page_count(folio), most);
	zd_put_page_refs(folio, most - 1 - HP * ZD_FOLIO_PIN);
	zd_unpin_user_pages(pages, HP);

	pin(mm, mem + HUGE, 1, pages);
	CHECK(zd_try_get_page_refs(pages[0], most - zd_page_count(pages[0])));
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem + HUGE, 1, 0, again), -ENOMEM);
	zd_put_page_refs(pages[0], most - 1 - ZD_PIN_BIAS);
	zd_unpin_user_pages(pages, 1);
}

struct racer {
	pthread_t thread;
	struct zd_mm *mm;
	char *mem;
	uint64_t rng, folios;
	const bool *stop;
};

/* Pins of any piece, while the memory is migrated, unmapped and made anew: a page that is
 * pinned has its address, and its pins are counted for it alone. */
static void *race(void *arg)
{
	struct racer *r = arg;
	struct zd_page **p = calloc(N, sizeof(*p));

	CHECK(p);
	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		size_t first = rnd(&r->rng) % 4 ? rnd(&r->rng) % N : 0;
		size_t nr = rnd(&r->rng) % 2 ? N - first : 1 + rnd(&r->rng) % (N - first);
		long n = zd_pin_user_pages_fast(r->mm, r->mem + first * PAGE, nr, 0, p);

		if (n == -EAGAIN || n == -EFAULT)
			continue;
		CHECK(n > 0);
		for (long i = 0; i < n; i++) {
			CHECK(zd_page_address(p[i]) == r->mem + (first + i) * PAGE);
			CHECK(zd_page_maybe_dma_pinned(p[i]));
			r->folios += is_folio(p[i]);
		}
		zd_unpin_user_pages(p, n);
	}
	free(p);
	return NULL;
}

/* New huge pages at @mem, filled. */
static void renew(struct zd_mm *mm, char *mem, uint64_t tag)
{
	CHECK(mmap(mem, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == mem);
	CHECK(!madvise(mem, N * PAGE, MADV_HUGEPAGE));
	fill(mem, N, tag);
	CHECK_EQ(zd_mm_register(mm, mem, N * PAGE), 0);
}

static void race_with_everything(struct zd_mm *mm, struct zd_device *dev, uint64_t *rng)
{
	char *mem = managed(mm, 1);
	struct racer r[THREADS];
	bool stop = false;
	uint64_t folios = 0;

	for (int i = 0; i < THREADS; i++) {
		r[i] = (struct racer){ .mm = mm, .mem = mem, .rng = rnd(rng) | 1, .stop = &stop };
		CHECK(!pthread_create(&r[i].thread, NULL, race, &r[i]));
	}
	for (uint64_t round = 2; round < 40; round++) {
		size_t from = rnd(rng) % N, nr = 1 + rnd(rng) % (N - from);
		struct zd_migrate_result res;

		switch (rnd(rng) % 3) {
		case 0:
			CHECK(!munmap(mem + from * PAGE, nr * PAGE));
			break;
		case 1:
			CHECK(!madvise(mem + from * PAGE, nr * PAGE, MADV_DONTNEED));
			break;
		default:
			CHECK_EQ(zd_migrate_to_device(mm, mem, N * PAGE, dev, &res), 0);
			CHECK_FILLED(mem, N, round - 1);
		}
		renew(mm, mem, round);
		/* pinned at once, so that there are folios whichever thread is fast */
		pin(mm, mem, N, pages);
		CHECK_FILLED(mem, N, round);
		zd_unpin_user_pages(pages, N);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < THREADS; i++) {
		CHECK(!pthread_join(r[i].thread, NULL));
		folios += r[i].folios;
	}
	printf("%llu pages of folios pinned in the race\n", (unsigned long long)folios);
	munmap(mem, N * PAGE);
}

int main(int argc, char **argv)
{
	uint64_t rng = seed(argc, argv);
	struct zd_device *dev = ram_device(16 * HP);
	struct zd_mm *mm = open_mm();

	one_count(mm, dev);
	one_left(mm, dev, &rng);
	unmapped(mm, dev);
	got(mm, dev);
	moved(mm, dev);
	no_folio(mm, dev);
	too_many(mm);
	race_with_everything(mm, dev, &rng);
	close_mm(mm, dev);
	return 0;
}
