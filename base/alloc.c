/* SPDX-License-Identifier: MIT */
/*
 * zonedev's own memory.
 *
 * Mechanism.  Everything is cut from private anonymous mappings, each with a
 * PROT_NONE page at both ends.  Three kinds:
 *
 *	chunk	1 MiB, aligned to 1 MiB: a header, then equal blocks of one
 *		power-of-two size, 32 bytes to 64 KiB
 *	large	one allocation above 64 KiB, with the same header in front
 *	reserve	lazily committed, no header; the caller knows its size
 *
 * Every mapping is in the table of own.c, so a bad pointer is told from a good one.
 *
 * Chunks are kept when they become empty: what zonedev allocates in small
 * pieces grows and shrinks with the number of ranges and devices, not with the
 * number of pages.
 *
 * Invariants:
 *  1. A free block's bit in its chunk's map is 0; freeing it again aborts.
 *  2. Blocks above the chunk's high-water mark were never used: still zero.
 *     Others are zeroed as they are given out.
 *
 * Locks: alloc_lock guards all of it.  Only mmap(2) and its relatives are
 * called under it, on mappings that no userfaultfd watches.  The lock is taken under
 * any other lock of zonedev's, and none but own.c's is taken under it.
 *
 * Fork.  A thread that is lost under the lock leaves a state from which the next one can
 * go on: lists, maps and marks are changed by one store each, in an order in which a block
 * may be lost, and is never in use twice.
 *
 * Signals.  A handler that interrupts a thread here must not come here: see
 * zd_alloc_is_busy().
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/lock.h"
#include "base/own.h"
#include "base/tls.h"

#define PAGE		4096UL
#define CHUNK_SIZE	(1UL << 20)
#define HEADER_SIZE	8192UL
#define MIN_SHIFT	5
#define MAX_SHIFT	16
#define NR_CLASSES	(MAX_SHIFT - MIN_SHIFT + 1)
#define MAX_BLOCKS	(CHUNK_SIZE >> MIN_SHIFT)

enum kind { CHUNK = 0x7a64636b, LARGE = 0x7a646c67 };

struct header {
	uint32_t kind;
	uint32_t shift;		/* CHUNK: log2 of the block size */
	size_t size;		/* LARGE: usable bytes, whole pages */
	uint32_t used;		/* CHUNK: blocks given out at least once */
	uint64_t map[MAX_BLOCKS / 64];
};
_Static_assert(sizeof(struct header) <= HEADER_SIZE, "the first block follows the header");

struct block {
	struct block *next;
};

static struct zd_mutex alloc_lock;
static struct block *free_blocks[NR_CLASSES];
static struct header *current_chunk[NR_CLASSES];
static unsigned int fail_in;
static ZD_TLS bool busy;	/* this thread is between lock() and unlock() */

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) & ~(to - 1);
}

static void lock(void)
{
	busy = true;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	zd_mutex_lock(&alloc_lock);
}

static void unlock(void)
{
	zd_mutex_unlock(&alloc_lock);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	busy = false;
}

bool zd_alloc_is_busy(void)
{
	return busy;
}

static char *block_at(struct header *h, uint32_t i)
{
	return (char *)h + HEADER_SIZE + ((size_t)i << h->shift);
}

static void *alloc_block(unsigned int shift)
{
	unsigned int class = shift - MIN_SHIFT;
	struct header *h = current_chunk[class];
	struct block *b = free_blocks[class];
	uint32_t i;

	if (b) {
		__atomic_store_n(&free_blocks[class], b->next, __ATOMIC_RELEASE);
		h = (struct header *)((uintptr_t)b & ~(CHUNK_SIZE - 1));
		i = ((char *)b - (char *)h - HEADER_SIZE) >> shift;
		memset(b, 0, 1UL << shift);
	} else {
		if (!h || h->used == (CHUNK_SIZE - HEADER_SIZE) >> shift) {
			h = zd_own_map(CHUNK_SIZE, CHUNK_SIZE, false);
			if (!h)
				return NULL;
			h->kind = CHUNK;
			h->shift = shift;
			__atomic_store_n(&current_chunk[class], h, __ATOMIC_RELEASE);
		}
		i = h->used++;
		b = (struct block *)block_at(h, i);
	}
	h->map[i / 64] |= 1UL << (i % 64);
	return b;
}

static void *alloc_large(size_t size)
{
	struct header *h;

	size = round_up(size, PAGE);
	if (size == 0 || size > SIZE_MAX / 2)
		return NULL;
	h = zd_own_map(HEADER_SIZE + size, CHUNK_SIZE, false);
	if (!h)
		return NULL;
	h->kind = LARGE;
	h->size = size;
	return (char *)h + HEADER_SIZE;
}

static bool inject_failure(void)
{
	return fail_in && --fail_in == 0;
}

static unsigned int shift_of(size_t size)
{
	if (size <= 1UL << MIN_SHIFT)
		return MIN_SHIFT;
	return 64 - __builtin_clzl(size - 1);
}

void *zd_alloc(size_t size)
{
	void *p = NULL;

	lock();
	if (!inject_failure())
		p = size > 1UL << MAX_SHIFT ? alloc_large(size) : alloc_block(shift_of(size));
	unlock();
	return p;
}

/* The header of an allocated @p.  alloc_lock held. */
static struct header *header_of(char *p)
{
	struct header *h = (struct header *)((uintptr_t)p & ~(CHUNK_SIZE - 1));
	const char *start = zd_own_start(p);
	size_t off = p - (char *)h - HEADER_SIZE;

	ZD_BUG_ON(!start || start != (char *)h - PAGE || p < (char *)h + HEADER_SIZE,
		  "%p isn't zonedev's", (void *)p);
	if (h->kind == LARGE)
		ZD_BUG_ON(off, "%p points into a large block", (void *)p);
	else
		ZD_BUG_ON(h->kind != CHUNK || off & ((1UL << h->shift) - 1) ||
				  !(h->map[(off >> h->shift) / 64] >> ((off >> h->shift) % 64) & 1),
			  "%p isn't allocated (kind %#x, block size 2^%u)", (void *)p, h->kind,
			  h->shift);
	return h;
}

void zd_free(void *p)
{
	struct header *h;
	struct block *b = p;
	size_t i;

	if (!p)
		return;
	lock();
	h = header_of(p);
	if (h->kind == LARGE) {
		zd_own_unmap(h, HEADER_SIZE + h->size);
	} else {
		i = ((char *)p - (char *)h - HEADER_SIZE) >> h->shift;
		h->map[i / 64] &= ~(1UL << (i % 64));
		b->next = free_blocks[h->shift - MIN_SHIFT];
		__atomic_store_n(&free_blocks[h->shift - MIN_SHIFT], b, __ATOMIC_RELEASE);
	}
	unlock();
}

void *zd_realloc(void *p, size_t size)
{
	struct header *h;
	size_t room;
	void *q;

	if (!p)
		return zd_alloc(size);
	lock();
	h = header_of(p);
	room = h->kind == LARGE ? h->size : 1UL << h->shift;
	unlock();

	/* Also when @size would fit: where the old size ended isn't known, and
	 * what is added must be zero. */
	q = zd_alloc(size);
	if (!q)
		return NULL;
	memcpy(q, p, room < size ? room : size);
	zd_free(p);
	return q;
}

void *zd_reserve(size_t bytes)
{
	size_t len = round_up(bytes, PAGE);
	void *p;

	if (len < bytes || len == 0) {
		errno = EINVAL;
		return NULL;
	}
	p = zd_own_map(len, PAGE, true);
	if (p) {
		/* Advice: nothing breaks where the kernel lacks it. */
		madvise(p, len, MADV_DONTDUMP);
		madvise(p, len, MADV_NOHUGEPAGE);
	}
	return p;
}

void zd_unreserve(void *p, size_t bytes)
{
	size_t len = round_up(bytes, PAGE);

	if (!p)
		return;
	zd_own_unmap(p, len);
}

void zd_decommit(void *p, size_t bytes)
{
	int saved = errno;

	/* EINVAL: locked pages, which DONTNEED leaves alone. */
	while (madvise(p, bytes, MADV_DONTNEED)) {
		ZD_BUG_ON(errno != EINVAL && errno != EAGAIN, "decommit %p + %zu: errno %d", p,
			  bytes, errno);
		if (errno == EINVAL)
			ZD_BUG_ON(munlock(p, bytes), "decommit %p + %zu: EINVAL", p, bytes);
	}
	errno = saved;
}

void zd_alloc_fail_nth(unsigned int nth)
{
	lock();
	fail_in = nth;
	unlock();
}
