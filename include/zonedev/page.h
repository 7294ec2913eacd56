/* SPDX-License-Identifier: MIT */
/*
 * zonedev/page.h - page descriptors and their one reference count.
 *
 * Every page that zonedev knows has a 16-byte descriptor in one table, the
 * vmemmap, indexed by its pfn.  pfns are zonedev's own number space: they are
 * given out in ranges by zd_memremap_pages() and have nothing to do with the
 * kernel's.
 *
 * A page is free when its count is 0, and then belongs to the driver of its
 * pagemap.  zd_page_init() makes it live (0 -> 1) and takes one hold on the
 * pagemap; the final zd_put_page() gives the page back through
 * ops->page_free and then drops that hold.  In between nothing touches the
 * pagemap, and neither zd_get_page() nor zd_put_page() asks what kind of page
 * it has: a get is one atomic increment, a put is one atomic decrement and a
 * branch.
 *
 * How this differs from Linux: a device page's count starts at 0 (as in Linux
 * 6.15 and later, not at 1), every type of page holds its pagemap while it is
 * live, and a descriptor of all zero bytes is a valid free page.
 *
 * A program that counts wrong isn't ended, nor is a page freed that others hold: the library
 * warns (once), as Linux's refcount_t does.  A count has room for 2^31 - 1: the try forms give
 * no more.  zd_get_page() doesn't look; a count that it takes beyond that, and one from which
 * more is put than it has, is saturated by the next put: set to ZD_PAGE_SATURATED, near which
 * it stays.  Such a page is never freed, and its pagemap's removal waits for it.  A put too
 * many of a free page is ignored.
 */
#ifndef ZONEDEV_PAGE_H
#define ZONEDEV_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zonedev/pfn.h>
#ifdef ZD_PAGE_TRACE
#include <zonedev/static_key.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#if !defined(ZD_PAGE_NO_ASM)
#if defined(__SANITIZE_THREAD__)
#define ZD_PAGE_NO_ASM		/* it has to see the atomics */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ZD_PAGE_NO_ASM
#endif
#endif
#endif

#define ZD_PAGE_SHIFT	12
#define ZD_PAGE_SIZE	4096UL
#define ZD_PAGE_MASK	(~(ZD_PAGE_SIZE - 1))

#define ZD_PAGE_SATURATED	0xc0000000u

/* In zd_page.pgmap_id, while the page is live. */
#define ZD_PAGE_LIVE	(1u << 31)
#define ZD_PAGE_FOLIO	(1u << 30)	/* its pins are counted elsewhere: zonedev/gup.h */
/* The same, while it is free: a device gave it out, to zonedev. */
#define ZD_PAGE_TAKEN	(1u << 29)

/*
 * struct zd_page - a page's descriptor.
 *
 * @refcount: 0 = free.  Use the functions below.
 * @pgmap_id: zonedev's: which pagemap the page belongs to, and the flags above.
 * @word: the driver's while the page is free (zd_page_set_private()); while it
 *	is live, the owner's (mm: where the page is mapped).  zd_page_init() and
 *	the final put both set it to 0 before they hand the page over.
 *
 * Its size is fixed for ever: it is compiled into every zd_pfn_to_page().
 */
struct zd_page {
	uint32_t refcount;
	uint32_t pgmap_id;
	uint64_t word;
};

struct zd_pagemap;

/* Base of the descriptor table: NULL until the first zd_memremap_pages(), then
 * never changes.  Read only; use the functions below.  A variable of the library's
 * and not a function, so that pfn -> page stays arithmetic; its type is fixed for
 * ever, since a program may have its own copy of it (a copy relocation). */
extern struct zd_page *zd_vmemmap;

/*
 * zd_pfn_to_page / zd_page_to_pfn - arithmetic, no checks.  @pfn must be of a
 * range that zd_memremap_pages() gave out.  Its descriptor stays readable (and
 * reads as free) after the range is unmapped.
 * Context: signal-safe, fork-safe.
 */
static inline struct zd_page *zd_pfn_to_page(zd_pfn_t pfn)
{
	return zd_vmemmap + pfn;
}

static inline zd_pfn_t zd_page_to_pfn(const struct zd_page *page)
{
	return (zd_pfn_t)(page - zd_vmemmap);
}

/*
 * zd_page_init - make a free page live: count 0 -> 1.
 *
 * The caller owns the free page exclusively (it is its driver, or got it from
 * ops->alloc_pages).  Takes a hold on the page's pagemap and sets page->word to
 * 0.  The reference is the caller's, to put or to hand on: a device page that is named
 * in zd_migrate_vma.dst[] is zd_migrate_vma_pages()'s from then on (zonedev/migrate.h
 * says so for each outcome).  Mirrors Linux zone_device_page_init().
 *
 * Returns 0; -ENODEV if the pagemap is being unmapped (or there is none): the page then
 * stays free and the caller's; -EBUSY, with a warning, if the page isn't free: then the page
 * isn't the caller's, either.
 * Context: any thread, fork-safe.
 */
int zd_page_init(struct zd_page *page);

/*
 * zd_page_pagemap - the pagemap of @page.  Valid while the caller holds a
 * reference to the page, and inside ops->page_free.
 * Context: signal-safe, fork-safe.
 */
struct zd_pagemap *zd_page_pagemap(const struct zd_page *page);

/* Out of line parts of the functions below; never call them. */
void __zd_put_page(struct zd_page *page);
__attribute__((cold)) void __zd_page_contended(void);
/* Returns false, with a warning. */
__attribute__((cold)) bool __zd_page_refuse(const struct zd_page *page, const char *what);

/*
 * Tracing of gets and puts (zonedev-probes(7)): in code that is compiled with
 * ZD_PAGE_TRACE a static branch each, on zd_page_trace_key; in all other code
 * nothing.  Such a program needs a ZD_STATIC_KEY_MODULE.
 */
struct zd_static_key;
extern struct zd_static_key zd_page_trace_key;	/* data, as branches name it; fixed */
void __zd_page_trace_get(const struct zd_page *page, uint32_t nr);
void __zd_page_trace_put(const struct zd_page *page, uint32_t nr);

#ifdef ZD_PAGE_TRACE
#define ZD_PAGE_TRACE_(what, page, nr)						\
	do {									\
		if (zd_static_branch_unlikely(zd_page_trace_key))		\
			__zd_page_trace_##what(page, nr);			\
	} while (0)
#else
#define ZD_PAGE_TRACE_(what, page, nr) do { } while (0)
#endif

/* A condition so rare that the compiler neither saves registers nor aligns targets for it:
 * the text of an inlined put is two thirds of what a plain if makes. */
#define ZD_PAGE_RARELY_(cond)	__builtin_expect_with_probability(cond, 0, 0.999)

/*
 * Take @refs off the count; true: the count was @refs, or less.  In assembly because the
 * flags of the subtraction tell; the compiler would fetch the old count and compare.
 *
 * Release: what the holder did to the page comes before its freeing.  Acquire: the last
 * putter sees what all the others did.
 */
static inline bool __zd_page_sub(struct zd_page *page, uint32_t refs)
{
#if defined(__x86_64__) && !defined(ZD_PAGE_NO_ASM)
	bool last;

	__asm__ volatile("lock subl %2, %1"
			 : "=@ccle"(last), "+m"(page->refcount)
			 : "er"(refs)
			 : "memory");
	return last;
#else
	return (int32_t)__atomic_fetch_sub(&page->refcount, refs, __ATOMIC_ACQ_REL) <=
	       (int32_t)refs;
#endif
}

/*
 * zd_get_page - one more reference to a page that the caller already holds.
 * With ZD_PAGE_DEBUG the call warns of a page that is free, or saturated; else a later put
 * of the page notices.
 * Context: signal-safe, fork-safe.
 */
static inline void zd_get_page(struct zd_page *page)
{
#ifdef ZD_PAGE_DEBUG
	if ((int32_t)__atomic_fetch_add(&page->refcount, 1, __ATOMIC_RELAXED) <= 0)
		__zd_page_refuse(page,
				 "zd_get_page() of a page that nobody holds, counted all the same");
#else
	__atomic_add_fetch(&page->refcount, 1, __ATOMIC_RELAXED);
#endif
	ZD_PAGE_TRACE_(get, page, 1);
}

/*
 * zd_try_get_page - a reference unless the page is free: for lookups that race
 * with the final put.
 *
 * true: the caller holds the page, which may have been freed and taken for another use
 * since the lookup: look again at whatever led here, and put if it changed.
 * false: the page is free; or, with a warning, its count is full or saturated.
 * Context: signal-safe, fork-safe.
 */
static inline bool zd_try_get_page(struct zd_page *page)
{
	uint32_t c = __atomic_load_n(&page->refcount, __ATOMIC_RELAXED);

	do {
		if (c - 1 >= INT32_MAX - 1u)
			return c && __zd_page_refuse(page, "zd_try_get_page()");
		/* Acquire: pairs with the release in zd_page_init(): what the page was before
		 * it became live isn't seen. */
	} while (!__atomic_compare_exchange_n(&page->refcount, &c, c + 1, true, __ATOMIC_ACQUIRE,
					      __ATOMIC_RELAXED));
	ZD_PAGE_TRACE_(get, page, 1);
	return true;
}

/*
 * zd_try_get_page_refs - @refs references at once, or none: as zd_try_get_page().
 * Also false when the count would run over (2^31).
 * Context: signal-safe, fork-safe.
 */
static inline bool zd_try_get_page_refs(struct zd_page *page, uint32_t refs)
{
	for (;;) {
		uint32_t c = __atomic_load_n(&page->refcount, __ATOMIC_RELAXED);

		if (c - 1 >= INT32_MAX - 1u || refs > INT32_MAX - c)
			return c && __zd_page_refuse(page, "zd_try_get_page_refs()");
		/* acquire: as in zd_try_get_page() */
		if (__atomic_compare_exchange_n(&page->refcount, &c, c + refs, false,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			ZD_PAGE_TRACE_(get, page, refs);
			return true;
		}
		__zd_page_contended();
	}
}

/*
 * zd_put_page - drop a reference.  The last one calls ops->page_free, in this
 * thread, and then drops the hold on the pagemap.  May be called with any lock
 * that the page's driver doesn't take in page_free.
 * Context: any thread, fork-safe; in a signal handler only where it isn't the last.
 */
static inline void zd_put_page(struct zd_page *page)
{
	/* Before the put: afterwards the page may be another holder's. */
	ZD_PAGE_TRACE_(put, page, 1);
	if (ZD_PAGE_RARELY_(__zd_page_sub(page, 1)))
		__zd_put_page(page);
}

/* zd_put_page_refs - drop @refs references at once: as zd_put_page().  2^31 or more: none,
 * with a warning.  Context: as zd_put_page(). */
static inline void zd_put_page_refs(struct zd_page *page, uint32_t refs)
{
	ZD_PAGE_TRACE_(put, page, refs);
	if (refs > INT32_MAX)
		__zd_page_refuse(page, "zd_put_page_refs() of 2^31 or more");
	else if (ZD_PAGE_RARELY_(__zd_page_sub(page, refs)))
		__zd_put_page(page);
}

/* zd_page_count - the count now; 0 = free, 2^31 and more: saturated.  A snapshot.
 * Context: signal-safe, fork-safe. */
static inline uint32_t zd_page_count(const struct zd_page *page)
{
	return __atomic_load_n(&page->refcount, __ATOMIC_ACQUIRE);
}

/*
 * zd_page_set_private / zd_page_private - 8 bytes that are the driver's own
 * while the page is free (a free list's link, say).  The driver orders its own
 * accesses.
 * Context: signal-safe, fork-safe.
 */
static inline void zd_page_set_private(struct zd_page *page, uint64_t value)
{
	page->word = value;
}

static inline uint64_t zd_page_private(const struct zd_page *page)
{
	return page->word;
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#ifdef ZD_PAGE_OWNER
/* The same functions, which note the line that calls them. */
#include <zonedev/page_owner.h>

#define zd_page_init(page) __extension__ ({					\
	struct zd_page *zd_p_ = (page);						\
	int zd_rc_ = (zd_page_init)(zd_p_);					\
										\
	if (!zd_rc_)								\
		ZD_PAGE_OWNER_TOOK_(zd_page_to_pfn(zd_p_), 1);			\
	zd_rc_;									\
})

#define zd_get_page(page) __extension__ ({					\
	struct zd_page *zd_p_ = (page);						\
										\
	(zd_get_page)(zd_p_);							\
	ZD_PAGE_OWNER_TOOK_(zd_page_to_pfn(zd_p_), 1);				\
	(void)0;								\
})

#define zd_try_get_page(page) __extension__ ({					\
	struct zd_page *zd_p_ = (page);						\
	bool zd_got_ = (zd_try_get_page)(zd_p_);				\
										\
	if (zd_got_)								\
		ZD_PAGE_OWNER_TOOK_(zd_page_to_pfn(zd_p_), 1);			\
	zd_got_;								\
})

#define zd_try_get_page_refs(page, refs) __extension__ ({			\
	struct zd_page *zd_p_ = (page);						\
	uint32_t zd_refs_ = (refs);						\
	bool zd_got_ = (zd_try_get_page_refs)(zd_p_, zd_refs_);			\
										\
	if (zd_got_)								\
		ZD_PAGE_OWNER_TOOK_(zd_page_to_pfn(zd_p_), zd_refs_);		\
	zd_got_;								\
})

#define zd_put_page(page) __extension__ ({					\
	struct zd_page *zd_p_ = (page);						\
										\
	ZD_PAGE_OWNER_DROPS_(zd_page_to_pfn(zd_p_), 1);				\
	(zd_put_page)(zd_p_);							\
	(void)0;								\
})

#define zd_put_page_refs(page, refs) __extension__ ({				\
	struct zd_page *zd_p_ = (page);						\
	uint32_t zd_refs_ = (refs);						\
										\
	ZD_PAGE_OWNER_DROPS_(zd_page_to_pfn(zd_p_), zd_refs_);			\
	(zd_put_page_refs)(zd_p_, zd_refs_);					\
	(void)0;								\
})
#endif
#endif
