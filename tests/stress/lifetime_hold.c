/* SPDX-License-Identifier: MIT */
/*
 * References, and what must be true as long as a thread has them:
 *
 *  - the count is no less than what this thread alone has of it, and one more
 *    while the page is mapped;
 *  - the page is in RAM, and a second look finds the same descriptor there;
 *  - the descriptor says the address that it was asked for.
 *
 * When the address is unmapped, dropped or another thread's, what is left is the
 * first.
 */
#include "tests/stress/lifetime.h"

void hold_check(const struct worker *w, const struct hold *h)
{
	struct zd_page *again[HOLD_MAX];
	unsigned char in_ram[HOLD_MAX];
	long n;

	for (unsigned int i = 0; i < h->nr; i++) {
		uint32_t count = zd_page_count(h->page[i]), least = h->refs + (h->addr != NULL);

		EXPECT(w, count >= least, "pfn %#llx, held %u times%s, has a count of %u",
		       (unsigned long long)zd_page_to_pfn(h->page[i]), h->refs,
		       h->addr ? " and mapped" : "", count);
		EXPECT(w, h->refs < ZD_PIN_BIAS || zd_page_maybe_dma_pinned(h->page[i]),
		       "a pinned page may not be pinned");
	}
	if (!h->addr)
		return;
	EXPECT(w, !mincore(h->addr, h->nr * PAGE, in_ram), "mincore: %d", errno);
	for (unsigned int i = 0; i < h->nr; i++)
		EXPECT(w, in_ram[i] & 1, "page %p is held and not in RAM", h->addr + i * PAGE);
	n = zd_get_user_pages_fast(mm, h->addr, h->nr, 0, again);
	EXPECT(w, n == h->nr, "%u pages at %p are held, and could not be got again: %ld", h->nr,
	       h->addr, n);
	for (long i = 0; i < n; i++) {
		EXPECT(w, again[i] == h->page[i],
		       "page %p is held as pfn %#llx and has become %#llx", h->addr + i * PAGE,
		       (unsigned long long)zd_page_to_pfn(h->page[i]),
		       (unsigned long long)zd_page_to_pfn(again[i]));
		/* not before: a mremap is followed a moment after it has returned (zonedev/gup.h),
		 * and getting a page waits for that */
		EXPECT(w, zd_page_address(h->page[i]) == h->addr + i * PAGE,
		       "pfn %#llx, held at %p, says that it is at %p",
		       (unsigned long long)zd_page_to_pfn(h->page[i]), h->addr + i * PAGE,
		       zd_page_address(h->page[i]));
		zd_put_page(again[i]);
	}
}

static struct hold *new_hold(struct worker *w, unsigned int which)
{
	if (w->nr_holds == HOLDS)
		hold_release(w, which % HOLDS, which);
	return &w->hold[w->nr_holds];
}

void hold_pages(struct worker *w, const struct op *op, bool pin)
{
	struct target t = pick(w, op->a, op->b, op->c, HOLD_MAX);
	unsigned int flags = (op->d & 1 ? ZD_FOLL_WRITE : 0) | (op->d & 2 ? ZD_FOLL_LONGTERM : 0);
	struct hold *h = new_hold(w, op->d >> 8);
	long n;

	if (!t.pages)
		return;
	if (t.addr >= mem && t.addr < mem + HOT * PAGE)
		t.addr += HOT * PAGE;	/* the HOT pages are to be free to go */
	*h = (struct hold){ .refs = pin ? ZD_PIN_BIAS : 1, .addr = t.foreign ? NULL : t.addr };
	n = (pin ? zd_pin_user_pages_fast : zd_get_user_pages_fast)(mm, t.addr + op->d % PAGE,
								    t.pages, flags, h->page);
	if (n == -EAGAIN)
		w->did.again++;
	if (n == -EAGAIN || (n == -EFAULT && !t.sure))
		return;
	EXPECT(w, n > 0 && (size_t)n <= t.pages, "%s %zu pages at %p: %ld",
	       pin ? "pinning" : "getting", t.pages, t.addr, n);
	h->nr = n;
	w->nr_holds++;
	hold_check(w, h);
}

static void let_go(const struct hold *h, unsigned int how)
{
	if (h->refs == ZD_PIN_BIAS && how & 1) {
		zd_unpin_user_pages((struct zd_page **)h->page, h->nr);
	} else if (h->refs == ZD_PIN_BIAS) {
		zd_unpin_user_pages_dirty_lock((struct zd_page **)h->page, h->nr, how & 2);
	} else {
		for (unsigned int i = 0; i < h->nr; i++) {
			if (how & 1) {	/* one more, and none the less */
				zd_get_page(h->page[i]);
				zd_put_page(h->page[i]);
			}
			zd_put_page(h->page[i]);
		}
	}
}

void hold_release(struct worker *w, unsigned int i, unsigned int how)
{
	struct hold h = w->hold[i];

	hold_check(w, &h);
	w->hold[i] = w->hold[--w->nr_holds];
	let_go(&h, how);
}

void hold_release_devices(struct worker *w)
{
	for (unsigned int i = w->nr_holds; i-- > 0;)
		if (w->hold[i].device)
			hold_release(w, i, 0);
}

/*
 * Got and put, over and over, for a few milliseconds: what a page says while it is held must be its
 * address, whatever migrations (OP_CHURN) do meanwhile.
 */
void hold_walk(struct worker *w, const struct op *op)
{
	struct zd_page *page[HOLD_MAX];
	size_t first = op->a % ((op->b % 4 ? HOT : COMMON) - HOLD_MAX);
	double end = now() + 0.003;

	__atomic_store_n(&w->walks, true, __ATOMIC_RELAXED);
	for (unsigned int round = 0; round % 64 || now() < end; round++) {
		long n = zd_get_user_pages_fast(mm, mem + first * PAGE, HOLD_MAX, 0, page);

		if (n == -EAGAIN) {
			w->did.again++;
			continue;
		}
		EXPECT(w, n > 0, "getting %u pages at %p: %ld", HOLD_MAX, mem + first * PAGE, n);
		for (long i = 0; i < n; i++) {
			EXPECT(w, zd_page_address(page[i]) == mem + (first + i) * PAGE,
			       "got pfn %#llx for %p, which says that it is at %p, count %u",
			       (unsigned long long)zd_page_to_pfn(page[i]),
			       mem + (first + i) * PAGE, zd_page_address(page[i]),
			       zd_page_count(page[i]));
			zd_put_page(page[i]);
		}
	}
	__atomic_store_n(&w->walks, false, __ATOMIC_RELAXED);
}

/* A page of the device that memory of this thread is on.  A reference doesn't keep the
 * memory from coming home, only the device from going. */
void hold_device_page(struct worker *w, const struct op *op)
{
	struct window *win = &w->win[op->a % WINDOWS];
	struct hold *h = new_hold(w, op->d >> 8);
	zd_pfn_t pfn[WIN_MAX];
	struct lent l;
	int rc;

	if (!win->pages || !lend(&l))
		return;
	rc = zd_migrate_device_pfns(mm, win->base, win->pages * PAGE, pfn, win->pages);
	EXPECT(w, !rc || (win->loose && rc == -EINVAL), "zd_migrate_device_pfns: %d", rc);
	for (unsigned int k = 0; !rc && k < win->pages; k++) {
		struct zd_page *page = zd_pfn_to_page(pfn[(op->b + k) % win->pages]);

		/* the memory may come home meanwhile: then the page is free, or another's */
		if (page == zd_pfn_to_page(0) || !zd_try_get_page(page))
			continue;
		*h = (struct hold){ .nr = 1, .refs = 1, .device = true, .page = { page } };
		w->nr_holds++;
		break;
	}
	give_back(&l);
}
