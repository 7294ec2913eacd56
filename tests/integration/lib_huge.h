/* SPDX-License-Identifier: MIT */
/* Memory of transparent huge pages, for the tests that want some. */
#ifndef LIB_HUGE_H
#define LIB_HUGE_H

#include "tests/integration/lib_test.h"

#define HUGE	(2UL << 20)

/* How much of the mapping at @p is huge pages, in bytes. */
static inline size_t huge_bytes(const char *p)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512];
	unsigned long start, end, kib = 0;
	bool mine = false;

	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			mine = start <= (uintptr_t)p && (uintptr_t)p < end;
		else if (mine && sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			break;
	}
	fclose(f);
	return kib << 10;
}

/* Room for @nr huge pages, aligned, not touched yet. */
static inline char *map_for_huge(size_t nr)
{
	char *raw = map((nr + 1) * HUGE / PAGE);
	char *p = (char *)(((uintptr_t)raw + HUGE - 1) & ~(HUGE - 1));

	if (madvise(p, nr * HUGE, MADV_HUGEPAGE))
		skip("no transparent huge pages here");
	return p;
}

/* @nr huge pages, filled with @tag's pattern. */
static inline char *map_huge(size_t nr, uint64_t tag)
{
	char *p = map_for_huge(nr);

	fill(p, nr * HUGE / PAGE, tag);
	if (huge_bytes(p) != nr * HUGE)
		skip("the kernel gives no huge pages now");
	return p;
}

#endif
