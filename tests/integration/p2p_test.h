/* SPDX-License-Identifier: MIT */
/* What the tests of peer-to-peer memory share. */
#ifndef P2P_TEST_H
#define P2P_TEST_H

#include "tests/integration/dax_test.h"

/* A provider of all of @fd, which stays the caller's. */
static inline struct zd_p2pdma *provider_of(int fd, size_t pages)
{
	struct zd_p2pdma_resource res = {
		.size = sizeof(res), .fd = fd, .length = pages * PAGE,
	};
	struct zd_p2pdma *p;

	CHECK_EQ(zd_p2pdma_add_resource(&res, &p), 0);
	CHECK_EQ(zd_p2pdma_size(p), pages * PAGE);
	CHECK_EQ(zd_p2pdma_available(p), pages * PAGE);
	return p;
}

static inline char *alloc_p2p(struct zd_p2pdma *p, size_t pages)
{
	void *mem;

	CHECK_EQ(zd_alloc_p2pmem(p, pages * PAGE, &mem), 0);
	return mem;
}

static inline size_t available(struct zd_p2pdma *p)
{
	return zd_p2pdma_available(p) / PAGE;
}

#endif
