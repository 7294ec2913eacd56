/* SPDX-License-Identifier: MIT */
/*
 * MOVE by the server's own thread.
 *
 * The thread that moves is the thread that reads events, so the two exclude
 * each other by construction and nothing ever needs to be cancelled.
 *
 * Staging pages are freed with MADV_DONTNEED, which on a registered range is an
 * event, and the thread that frees them waits until the event has been read.  The
 * server's thread would wait for itself.  So staging is unregistered meanwhile: two
 * ioctls for 512 pages.
 *
 * To give pages back to the kernel takes as long as to copy them.  So there are two
 * staging areas, and while the server fills one, a thread that waits for the server (the
 * caller whose pages they were) empties the other.  An area is
 *
 *	CLEAN	empty, the server's
 *	FULL	to be emptied, by the thread that makes it BUSY
 *	BUSY	being emptied, by one thread, which makes it CLEAN
 *
 * The server leaves an area FULL only if a caller helps and the other area is CLEAN; else
 * it empties one itself.  So it always has an area, waits for no thread, and memory of
 * one batch at most is held back, until the call of the thread that empties it returns
 * (with several callers, that may be another than the pages' own).
 *
 * Ordering.  FULL is a release, after the server's last look at the pages, and pairs with
 * the exchange to BUSY; CLEAN is a release, after the pages have gone, and pairs with the
 * server's load.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/copy.h"
#include "base/fault_guard.h"
#include "hmm/hmm.h"
#include "space/maps.h"
#include "engine/out.h"
#include "hmm/mover_self.h"
#include "space/uffd.h"

#define AREAS		2
#define RESERVE_BYTES	((AREAS + 1) * ZD_STAGING_BYTES)

enum { CLEAN, FULL, BUSY };

struct area {
	char *staging;		/* ZD_STAGING_BYTES, 2 MiB-aligned */
	uint64_t used;		/* slots to free, by the area's owner of the moment */
	uint32_t state;
};

struct self {
	void *reserve;
	struct area areas[AREAS];
	struct area *area;	/* the server's: CLEAN, or in use */
	struct zd_completion *helper;	/* the server's: what a helping caller waits for */
};

static char *slot_at(const struct self *self, unsigned int slot)
{
	return self->area->staging + slot * ZD_PAGE_SIZE;
}

/*
 * How many of @nr pages are in staging from @slot on.  After a failure this, and
 * not what the kernel reports, is the truth: Linux 6.18 moves pages in batches,
 * and where one fails in the middle of a batch the kernel does not count those before it.
 * (They would be taken for pages that stayed, and read as zeros.)  Staging was
 * empty, so a page that is there has been moved: also one that the kernel has swapped
 * out, which the kernel moves without bringing it in.
 */
static unsigned int moved_pages(struct zd_mm *mm, unsigned int slot, unsigned int nr)
{
	struct self *self = mm->mover_data;
	bool there[ZD_STAGING_SLOTS];
	unsigned int moved = 0;
	int rc = zd_there_scan(zd_hmm_of(mm)->pagemap_fd, (uintptr_t)slot_at(self, slot), nr,
			       there);

	ZD_BUG_ON(rc, "pagemap: %d", rc);
	while (moved < nr && there[moved])
		moved++;
	return moved;
}

/* zd_mover_ops, in the server's thread: all pages are moved before start() returns. */
static int start(struct zd_mm *mm, struct zd_mig *mig)
{
	struct self *self = mm->mover_data;
	unsigned int i = 0;

	while (i < mig->nr) {
		uint64_t addr = mig->page[i].addr;
		unsigned int run = 1, moved;
		ssize_t rc;

		while (i + run < mig->nr && mig->page[i + run].addr == addr + run * ZD_PAGE_SIZE)
			run++;
		rc = zd_uffd_move(zd_mm_uffd(mm), (uintptr_t)slot_at(self, i), addr,
				  run * ZD_PAGE_SIZE);
		moved = rc == (ssize_t)(run * ZD_PAGE_SIZE) ? run : moved_pages(mm, i, run);
		for (unsigned int k = 0; k < moved; k++)
			mig->page[i + k].error = 0;
		if (moved && !zd_uffd_mark(zd_mm_uffd(mm), addr, moved * ZD_PAGE_SIZE))
			for (unsigned int k = 0; k < moved; k++)
				mig->page[i + k].marked = true;
		i += moved;
		if (!moved)
			mig->page[i++].error = rc < 0 ? rc : -EAGAIN;
	}
	self->area->used = mig->nr;
	zd_out_moved(mig);
	return 0;
}

struct fetched {
	const struct self *self;
	unsigned int nr;
	const uint16_t *slot;
	void *const *dst;
	bool *zero;
};

static void copy_slots(void *arg)
{
	const struct fetched *f = arg;

	for (unsigned int i = 0; i < f->nr; i++) {
		const char *src = slot_at(f->self, f->slot[i]);

		f->zero[i] = zd_page_is_zero(src);
		zd_copy_out(f->dst[i], src);
	}
	zd_copy_out_end();
}

static int fetch(struct zd_mm *mm, unsigned int nr, const uint16_t *slot, void *const *dst,
		 bool *zero)
{
	struct fetched f = { mm->mover_data, nr, slot, dst, zero };

	/* a page's copy may lie in memory of a device, which may fail: anywhere, to the guard */
	return zd_fault_guard_call(copy_slots, &f, NULL, SIZE_MAX, NULL);
}

/* Free the pages of @area, which is the calling thread's: BUSY, or the server's own. */
static void empty(struct zd_mm *mm, struct area *area)
{
	uint64_t addr = (uintptr_t)area->staging;
	int rc = zd_uffd_unregister(zd_mm_uffd(mm), addr, ZD_STAGING_BYTES);

	if (!rc && madvise(area->staging, area->used * ZD_PAGE_SIZE, MADV_DONTNEED)) {
		/* mlockall() has locked, and filled, all of the area */
		munlock(area->staging, ZD_STAGING_BYTES);
		rc = madvise(area->staging, ZD_STAGING_BYTES, MADV_DONTNEED) ? -errno : 0;
	}
	if (!rc)
		rc = zd_uffd_register_own(zd_mm_uffd(mm), addr, ZD_STAGING_BYTES);
	ZD_BUG_ON(rc, "staging: %d", rc);
	area->used = 0;
	/* release: pairs with the load in release() */
	__atomic_store_n(&area->state, CLEAN, __ATOMIC_RELEASE);
}

static void empty_if_full(struct zd_mm *mm, struct area *area)
{
	uint32_t full = FULL;

	/* acquire: pairs with the store of FULL in release() */
	if (__atomic_compare_exchange_n(&area->state, &full, BUSY, false, __ATOMIC_ACQUIRE,
					__ATOMIC_RELAXED))
		empty(mm, area);
}

/* The batch's pages have been fetched: have the area emptied. */
static void release(struct zd_mm *mm)
{
	struct self *self = mm->mover_data;
	struct area *area = self->area, *other = &self->areas[area == self->areas];

	if (!area->used)
		return;
	if (!self->helper || __atomic_load_n(&other->state, __ATOMIC_ACQUIRE) != CLEAN) {
		empty(mm, area);
		return;
	}
	self->area = other;
	/* release: pairs with the exchange in empty_if_full() */
	__atomic_store_n(&area->state, FULL, __ATOMIC_RELEASE);
	zd_nudge(self->helper);
}

void zd_mover_self_help_by(struct zd_mm *mm, struct zd_completion *done)
{
	struct self *self = mm->mover_data;

	self->helper = done;
}

void zd_mover_self_help(struct zd_mm *mm, struct zd_completion *done)
{
	struct self *self = mm->mover_data;
	uint32_t seen = 0;

	do {
		zd_wait_for_nudge(done, &seen);
		for (unsigned int i = 0; i < AREAS; i++)
			empty_if_full(mm, &self->areas[i]);
	} while (!(seen & ZD_COMPLETION_DONE));
}

static void cancel(struct zd_mm *mm, struct zd_mig *mig)
{
	(void)mm;
	(void)mig;
}

static void progress(struct zd_mm *mm, struct zd_mig *mig)
{
	(void)mm;
	(void)mig;
}

static bool read_begin(struct zd_mm *mm)
{
	(void)mm;
	return true;
}

static void read_end(struct zd_mm *mm)
{
	(void)mm;
}

static void destroy(struct zd_mm *mm)
{
	struct self *self = mm->mover_data;

	zd_uffd_unregister(zd_mm_uffd(mm), (uintptr_t)self->areas[0].staging,
			   AREAS * ZD_STAGING_BYTES);
	zd_unreserve(self->reserve, RESERVE_BYTES);
	zd_free(self);
}

static const struct zd_mover_ops mover_self = {
	.start = start,
	.progress = progress,
	.cancel = cancel,
	.fetch = fetch,
	.release = release,
	.read_begin = read_begin,
	.read_end = read_end,
	.destroy = destroy,
};

int zd_mover_self_init(struct zd_mm *mm)
{
	struct self *self = zd_alloc(sizeof(*self));
	int rc = -ENOMEM;

	if (!self)
		return rc;
	self->reserve = zd_reserve(RESERVE_BYTES);
	if (!self->reserve)
		goto err_free;
	for (unsigned int i = 0; i < AREAS; i++)
		self->areas[i].staging =
			(char *)((((uintptr_t)self->reserve + ZD_STAGING_BYTES - 1) &
				  ~(ZD_STAGING_BYTES - 1)) +
				 i * ZD_STAGING_BYTES);
	self->area = self->areas;
	rc = zd_uffd_register_own(zd_mm_uffd(mm), (uintptr_t)self->area->staging,
				  AREAS * ZD_STAGING_BYTES);
	if (rc)
		goto err_unreserve;
	mm->mover = &mover_self;
	mm->mover_data = self;
	return 0;

err_unreserve:
	zd_unreserve(self->reserve, RESERVE_BYTES);
err_free:
	zd_free(self);
	return rc;
}
