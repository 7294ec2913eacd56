/* SPDX-License-Identifier: MIT */
/* What the tests of pmem regions under load share, beside lib_test.h. */
#ifndef PMEM_LIB_H
#define PMEM_LIB_H

#include "lib_test.h"

#define SECTOR	ZD_SECTOR_SIZE
#define MIB	(UINT64_C(1) << 20)

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static inline const char *region_path(const char *name)
{
	static char path[512];
	const char *dir = getenv("TMPDIR");

	snprintf(path, sizeof(path), "%s/%s.%d", dir ? dir : "/var/tmp", name, getpid());
	return path;
}

static inline struct zd_pmem *open_region(const char *path, unsigned int flags, uint64_t bytes)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr),
				     .flags = flags | ZD_PMEM_CREATE,
				     .bytes = bytes };
	struct zd_pmem *pmem = NULL;
	char err[256] = "";
	int rc = zd_pmem_open(path, &attr, &pmem, err, sizeof(err));

	if (rc)
		fprintf(stderr, "%s: %d: %s\n", path, rc, err);
	CHECK_EQ(rc, 0);
	return pmem;
}

/* Sectors that name themselves and their generation, word by word. */
static inline void stamp(void *buf, uint64_t sector, uint64_t nr, uint32_t gen)
{
	uint64_t *w = buf;

	for (uint64_t s = sector; s < sector + nr; s++)
		for (uint64_t i = 0; i < SECTOR / 8; i++)
			*w++ = (s << 32 | gen) ^ (i * 0x9e3779b97f4a7c15ull);
}

/* The generation of one sector; 0: zeros; -1: torn, or another sector's. */
static inline int64_t stamped(const void *buf, uint64_t sector)
{
	const uint64_t *w = buf;
	uint64_t first = w[0];

	for (uint64_t i = 0; i < SECTOR / 8; i++)
		if (w[i] != (first ? first ^ (i * 0x9e3779b97f4a7c15ull) : 0))
			return -1;
	if (!first)
		return 0;
	return first >> 32 == sector ? (int64_t)(first & 0xffffffff) : -1;
}

#endif
