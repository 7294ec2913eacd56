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
 * Every mapping is entered in a sorted table, so "is this ours" needs no lock
 * of anybody else's, and a bad pointer is told from a good one.
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
 * called under it, on mappings that no userfaultfd watches.  It is taken under
 * any other lock of zonedev's, and takes none.
 *
 * Fork: the child starts with the lock free and no free lists, since another
 * thread may have been half-way through an operation; it loses what was on the
 * lists.  A handler that took the lock in the parent could deadlock: fork waits
 * for the reader of its userfaultfd event, who may be allocating.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "core/alloc.h"
#include "core/bug.h"
#include "core/lock.h"

#define PAGE		4096UL
#define CHUNK_SIZE	(1UL << 20)
#define HEADER_SIZE	8192UL
#define MIN_SHIFT	5
#define MAX_SHIFT	16
#define NR_CLASSES	(MAX_SHIFT - MIN_SHIFT + 1)
#define MAX_BLOCKS	(CHUNK_SIZE >> MIN_SHIFT)
/* Each mapping is at least one of the kernel's vm.max_map_count (65530). */
#define MAX_RANGES	65536U

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
static struct zd_own_range *ranges;	/* sorted by start */
static unsigned int nr_ranges;
static unsigned int fail_in;

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/*
 * @len bytes aligned to @align between two guard pages.  Readable and writable
 * only by the mprotect, and unlocked before it: under mlockall(MCL_FUTURE)
 * a writable mapping is populated at once, which a @sparse one must not be.
 */
static void *map_fenced(size_t len, size_t align, bool sparse)
{
	size_t total = len + align + 2 * PAGE;
	char *raw, *p;
	int saved;

	if (total < len) {
		errno = ENOMEM;
		return NULL;
	}
	raw = mmap(NULL, total, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | (sparse ? MAP_NORESERVE : 0), -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	p = (char *)round_up((uintptr_t)raw + PAGE, align);
	if (sparse)
		munlock(p, len);
	if (mprotect(p, len, PROT_READ | PROT_WRITE)) {
		saved = errno;
		munmap(raw, total);
		errno = saved;
		return NULL;
	}
	if (p - PAGE > raw)
		munmap(raw, p - PAGE - raw);
	if (raw + total > p + len + PAGE)
		munmap(p + len + PAGE, raw + total - (p + len + PAGE));
	return p;
}

static void unmap_fenced(void *p, size_t len)
{
	ZD_BUG_ON(munmap((char *)p - PAGE, len + 2 * PAGE), "munmap %p + %zu: errno %d", p, len,
		  errno);
}

/* Index of the first range that ends above @addr.  alloc_lock held. */
static unsigned int range_above(const char *addr)
{
	unsigned int lo = 0, hi = nr_ranges;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		if ((char *)ranges[mid].start + ranges[mid].len > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static void range_add(char *p, size_t len)
{
	unsigned int i = range_above(p);

	memmove(&ranges[i + 1], &ranges[i], (nr_ranges - i) * sizeof(*ranges));
	ranges[i] = (struct zd_own_range){ p - PAGE, len + 2 * PAGE };
	nr_ranges++;
}

static void range_del(const char *p, size_t len)
{
	unsigned int i = range_above(p);

	ZD_BUG_ON(i == nr_ranges || (char *)ranges[i].start != p - PAGE ||
		  ranges[i].len != len + 2 * PAGE, "%p + %zu isn't a mapping of zonedev's",
		  (const void *)p, len);
	nr_ranges--;
	memmove(&ranges[i], &ranges[i + 1], (nr_ranges - i) * sizeof(*ranges));
}

/* A mapping, entered in the table.  alloc_lock held. */
static void *map_own(size_t len, size_t align, bool sparse)
{
	void *p;

	if (!ranges) {
		size_t size = MAX_RANGES * sizeof(*ranges);

		ranges = map_fenced(size, PAGE, true);
		if (!ranges)
			return NULL;
		range_add((char *)ranges, size);
	}
	if (nr_ranges == MAX_RANGES) {
		errno = ENOMEM;
		return NULL;
	}
	p = map_fenced(len, align, sparse);
	if (p)
		range_add(p, len);
	return p;
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
		free_blocks[class] = b->next;
		h = (struct header *)((uintptr_t)b & ~(CHUNK_SIZE - 1));
		i = ((char *)b - (char *)h - HEADER_SIZE) >> shift;
		memset(b, 0, 1UL << shift);
	} else {
		if (!h || h->used == (CHUNK_SIZE - HEADER_SIZE) >> shift) {
			h = map_own(CHUNK_SIZE, CHUNK_SIZE, false);
			if (!h)
				return NULL;
			h->kind = CHUNK;
			h->shift = shift;
			current_chunk[class] = h;
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
	h = map_own(HEADER_SIZE + size, CHUNK_SIZE, false);
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

	zd_mutex_lock(&alloc_lock);
	if (!inject_failure())
		p = size > 1UL << MAX_SHIFT ? alloc_large(size) : alloc_block(shift_of(size));
	zd_mutex_unlock(&alloc_lock);
	return p;
}

/* The header of an allocated @p.  alloc_lock held. */
static struct header *header_of(char *p)
{
	struct header *h = (struct header *)((uintptr_t)p & ~(CHUNK_SIZE - 1));
	unsigned int r = range_above(p);
	size_t off = p - (char *)h - HEADER_SIZE;

	ZD_BUG_ON(r == nr_ranges || (char *)ranges[r].start != (char *)h - PAGE ||
		  p < (char *)h + HEADER_SIZE, "%p isn't zonedev's", (void *)p);
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
	size_t i, len;

	if (!p)
		return;
	zd_mutex_lock(&alloc_lock);
	h = header_of(p);
	if (h->kind == LARGE) {
		len = HEADER_SIZE + h->size;
		range_del((char *)h, len);
		unmap_fenced(h, len);
	} else {
		i = ((char *)p - (char *)h - HEADER_SIZE) >> h->shift;
		h->map[i / 64] &= ~(1UL << (i % 64));
		b->next = free_blocks[h->shift - MIN_SHIFT];
		free_blocks[h->shift - MIN_SHIFT] = b;
	}
	zd_mutex_unlock(&alloc_lock);
}

void *zd_realloc(void *p, size_t size)
{
	struct header *h;
	size_t room;
	void *q;

	if (!p)
		return zd_alloc(size);
	zd_mutex_lock(&alloc_lock);
	h = header_of(p);
	room = h->kind == LARGE ? h->size : 1UL << h->shift;
	zd_mutex_unlock(&alloc_lock);

	/* Also when it would fit: where the old size ended isn't known, and
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
	zd_mutex_lock(&alloc_lock);
	p = map_own(len, PAGE, true);
	zd_mutex_unlock(&alloc_lock);
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
	zd_mutex_lock(&alloc_lock);
	range_del(p, len);
	unmap_fenced(p, len);
	zd_mutex_unlock(&alloc_lock);
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

bool zd_addr_is_own(const void *p)
{
	unsigned int i;
	bool own;

	zd_mutex_lock(&alloc_lock);
	i = range_above(p);
	own = i < nr_ranges && (const char *)ranges[i].start <= (const char *)p;
	zd_mutex_unlock(&alloc_lock);
	return own;
}

unsigned int zd_own_ranges(struct zd_own_range *out, unsigned int max)
{
	unsigned int n;

	zd_mutex_lock(&alloc_lock);
	n = nr_ranges;
	if (out)
		memcpy(out, ranges, (n < max ? n : max) * sizeof(*out));
	zd_mutex_unlock(&alloc_lock);
	return n;
}

void zd_alloc_fail_nth(unsigned int nth)
{
	zd_mutex_lock(&alloc_lock);
	fail_in = nth;
	zd_mutex_unlock(&alloc_lock);
}

static void after_fork_child(void)
{
	alloc_lock.word = 0;
	memset(free_blocks, 0, sizeof(free_blocks));
	memset(current_chunk, 0, sizeof(current_chunk));
}

/* Here and not at the first allocation: pthread_atfork() mallocs. */
__attribute__((constructor)) static void alloc_init(void)
{
	pthread_atfork(NULL, NULL, after_fork_child);
}
