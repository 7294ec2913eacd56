/* SPDX-License-Identifier: MIT */
/* What the tests of device-dax share: regions over files that go away by
 * themselves. */
#ifndef DAX_TEST_H
#define DAX_TEST_H

#include "tests/integration/lib_test.h"

#define HUGE	(2ul << 20)

static inline int new_memfd(uint64_t bytes)
{
	int fd = memfd_create("dax-test", MFD_CLOEXEC);

	CHECK(fd >= 0 && !ftruncate(fd, (off_t)bytes));
	return fd;
}

/* A region over @fd, which stays the caller's. */
static inline struct zd_dax *open_dax(int fd, uint64_t align)
{
	struct zd_dax_opts opts = { .size = sizeof(opts), .align = align };
	struct zd_dax *dax;

	CHECK_EQ(zd_dax_open_fd(fd, &opts, &dax), 0);
	return dax;
}

/* A mapping of the whole region, readable and writable. */
static inline struct zd_dax_mapping *map_all(struct zd_dax *dax, struct zd_mm *mm,
					     unsigned int flags)
{
	struct zd_dax_mapping *map;

	CHECK_EQ(zd_dax_mmap(dax, mm, NULL, 0, zd_dax_size(dax), PROT_READ | PROT_WRITE, flags,
			     &map),
		 0);
	return map;
}

static inline uint64_t live_pages(const struct zd_dax *dax)
{
	return zd_pagemap_live_pages(zd_dax_pagemap(dax));
}

/* How many pages of the range the page tables have. */
static inline size_t mapped_pages(const void *mem, size_t pages)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	size_t nr = 0;

	CHECK(fd >= 0);
	for (size_t i = 0; i < pages; i++) {
		uint64_t e;

		CHECK_EQ(pread(fd, &e, sizeof(e), ((uintptr_t)mem / PAGE + i) * sizeof(e)),
			 sizeof(e));
		nr += e >> 63;
	}
	close(fd);
	return nr;
}

#endif
