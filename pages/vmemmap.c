/* SPDX-License-Identifier: MIT */
/*
 * The descriptor table: 16 bytes for each of 2^36 pfns, one array, so that descriptor and
 * pfn are arithmetic.
 *
 * Mechanism.  The table has a place of 1 TiB in the address space (less where that is
 * limited), and of the place as much is mapped, from its beginning on, as pfns were ever
 * given out.  The rest isn't even reserved, so that the program's size, and what mlockall(2)
 * has to lock, grow with its devices only.  So other code may map something in the place: the
 * kernel chooses the far end of such a hole, or the near end in the old layout
 * (vm.legacy_va_layout), for which a place far away is chosen here; a mapping that is in the
 * way all the same makes zd_vmemmap_open() fail.  What is mapped is committed by touching,
 * and a range's descriptors are zero when the range is given out because they were
 * decommitted when it was unmapped.
 *
 * A page that no access is allowed to lies before the first and behind the last descriptor.
 *
 * Fork.  @growing_to says what a thread that was lost in zd_vmemmap_open() has mapped
 * beyond; the child unmaps it at once.  (A thread that was lost between the call that maps and
 * the next store leaves a piece without access, and the child's table can't grow there.)
 *
 * Locks: with pagemap.c's map_lock.
 */
#include "pages/vmemmap.h"

#include <errno.h>
#include <sys/mman.h>

#include <zonedev/log.h>

#include "base/fork.h"
#include "base/own.h"

#define OS_PAGE		4096UL
#define STEP		(4UL << 20)	/* so much is mapped at a time */
#define MIN_PFNS	(1ULL << 18)	/* those of one step */
#define FAR		(16UL << 40)

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE	0x100000
#endif

struct zd_page *zd_vmemmap;

static char *base;		/* the table's place; zd_vmemmap once it is complete */
static uint64_t max_pfns;
static size_t mapped;		/* bytes from @base on, and a page behind them */
static size_t growing_to;

static char *map_nothing(char *hint, size_t len)
{
	char *p = mmap(hint, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Does the kernel put new mappings right behind the one at @p, rather than at the end of the
 * hole?  Tried with a mapping that is too large for the small holes elsewhere. */
static bool is_bottom_up(const char *p, size_t hole)
{
	char *next = map_nothing(NULL, hole / 4);
	bool near = next > p && (size_t)(next - p) < hole / 2;

	if (next)
		munmap(next, hole / 4);
	return near;
}

/* Somewhere with room for @len bytes and a page on both sides, of which the first page and
 * the second are mapped: nothing is there yet.  NULL: nowhere. */
static char *find_place(size_t len)
{
	char *p = map_nothing(NULL, len + 2 * OS_PAGE), *far;

	if (!p)
		return NULL;
	munmap(p + 2 * OS_PAGE, len);
	if (!is_bottom_up(p, len))
		return p + OS_PAGE;
	far = map_nothing(p + FAR, len + 2 * OS_PAGE);
	if (!far)
		return p + OS_PAGE;
	munmap(p, 2 * OS_PAGE);
	munmap(far + 2 * OS_PAGE, len);
	return far + OS_PAGE;
}

/* Map the table up to @end.  The page behind it is there, and becomes a part of it. */
static int grow(size_t end)
{
	char *from = base + mapped + OS_PAGE;
	size_t more = end - mapped;
	char *p;

	p = mmap(from, more, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (p != from)
		goto err_place;
	__atomic_store_n(&growing_to, end, __ATOMIC_RELEASE);
	/* Unlocked before it is writable: or mlockall(MCL_FUTURE) would have all of it
	 * committed here. */
	munlock(base + mapped, more);
	if (mprotect(base + mapped, more, PROT_READ | PROT_WRITE))
		goto err_unmap;
	/* Advice: nothing breaks where the kernel lacks it. */
	madvise(base + mapped, more, MADV_DONTDUMP);
	madvise(base + mapped, more, MADV_NOHUGEPAGE);
	zd_own_grow(base - OS_PAGE, end + 2 * OS_PAGE);
	mapped = end;
	return 0;

err_unmap:
	munmap(from, more);
	growing_to = mapped;
	return -ENOMEM;

err_place:
	if (p != MAP_FAILED)	/* an old kernel took the address for a hint */
		munmap(p, more);
	else if (errno == EEXIST)
		zd_warn_once("something was mapped where the page descriptors would have to go on");
	return -ENOMEM;
}

/* What a thread of the parent was adding to the table is unmapped. */
static void after_fork_child(void)
{
	if (growing_to <= mapped)
		return;
	munmap(base + mapped + OS_PAGE, growing_to - mapped);
	mprotect(base + mapped, OS_PAGE, PROT_NONE);
	growing_to = mapped;
}

static struct zd_fork_handler fork_handler = { .child = after_fork_child };

int zd_vmemmap_init(void)
{
	uint64_t pfns = 1ULL << ZD_PFN_BITS;
	int err;

	zd_fork_register(&fork_handler);
	while (!base) {
		base = find_place(pfns * sizeof(struct zd_page));
		if (base)
			break;
		pfns /= 2;
		if (pfns < MIN_PFNS)
			return -ENOMEM;
	}
	if (!max_pfns) {
		err = zd_own_add(base - OS_PAGE, 2 * OS_PAGE);
		if (err)
			return err;
		max_pfns = pfns;
		if (pfns < 1ULL << ZD_PFN_BITS)
			zd_log(ZD_LOG_INFO,
			       "address space is limited (RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK after mlockall, or vm.overcommit_memory): room for %llu MiB of device pages",
			       (unsigned long long)(pfns >> (20 - ZD_PAGE_SHIFT)));
	}
	err = mapped ? 0 : grow(STEP);
	if (err)
		return err;
	/* Release: a thread that sees the table sees what lookups need (lookup_init()). */
	__atomic_store_n(&zd_vmemmap, (struct zd_page *)base, __ATOMIC_RELEASE);
	return 0;
}

int zd_vmemmap_open(zd_pfn_t first, uint64_t nr)
{
	size_t end;

	if (first > max_pfns || max_pfns - first < nr)
		return -ENOSPC;
	end = ((first + nr) * sizeof(struct zd_page) + STEP - 1) & ~(STEP - 1);
	return end > mapped ? grow(end) : 0;
}
