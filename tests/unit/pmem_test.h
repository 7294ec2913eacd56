/* SPDX-License-Identifier: MIT */
/* What the tests of pmem share. */
#ifndef PMEM_TEST_H
#define PMEM_TEST_H

#include "unit_test.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <zonedev.h>

#define KIB		1024ull
#define MIB		(1024 * KIB)
#define SECTOR		ZD_SECTOR_SIZE

/* A path in TMPDIR, which the runner makes and removes. */
static inline const char *tmp_path(const char *name)
{
	static char path[4][512];
	static int n;
	const char *dir = getenv("TMPDIR");
	char *p = path[n++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s.%d", dir ? dir : "/var/tmp", name, getpid());
	return p;
}

static inline int try_open(const char *path, unsigned int flags, uint64_t bytes,
			   struct zd_pmem **pmem)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr), .flags = flags, .bytes = bytes };
	char err[256] = "";
	int rc = zd_pmem_open(path, &attr, pmem, err, sizeof(err));

	/* A refusal says why, and what to do. */
	if (rc && !err[0]) {
		fprintf(stderr, "%s: no message with %d\n", path, rc);
		return 1;
	}
	if (rc && getenv("ZD_VERBOSE"))
		fprintf(stderr, "%d: %s\n", rc, err);
	return rc;
}

static inline struct zd_pmem *open_at(const char *path, unsigned int flags, uint64_t bytes)
{
	struct zd_pmem *pmem;
	int rc = try_open(path, flags, bytes, &pmem);

	if (rc)
		fprintf(stderr, "%s: %s\n", path, strerror(-rc));
	return rc ? NULL : pmem;
}

static inline struct zd_pmem *open_new(const char *path, unsigned int flags, uint64_t bytes)
{
	unlink(path);
	return open_at(path, flags | ZD_PMEM_CREATE, bytes);
}

static inline int rd(struct zd_pmem *p, uint64_t sector, uint64_t nr, void *buf)
{
	return zd_pmem_rw(p, ZD_PMEM_READ, 0, sector, nr, buf);
}

static inline int wr(struct zd_pmem *p, uint64_t sector, uint64_t nr, const void *buf)
{
	return zd_pmem_rw(p, ZD_PMEM_WRITE, 0, sector, nr, (void *)buf);
}

/* Fills sectors: each word tells its sector and generation. */
static inline void stamp(void *buf, uint64_t sector, uint64_t nr, uint32_t gen)
{
	uint64_t *w = buf;

	for (uint64_t s = sector; s < sector + nr; s++)
		for (uint64_t i = 0; i < SECTOR / 8; i++)
			*w++ = (s << 24 | gen) ^ (i * 0x9e3779b97f4a7c15ull);
}

/* The generation of one sector; -1: torn, or another sector's content; 0: zeros. */
static inline int64_t stamped(const void *buf, uint64_t sector)
{
	const uint64_t *w = buf;
	uint64_t first = w[0];
	bool zero = !first;

	for (uint64_t i = 0; i < SECTOR / 8; i++)
		if (w[i] != (zero ? 0 : first ^ (i * 0x9e3779b97f4a7c15ull)))
			return -1;
	return zero ? 0 : first >> 24 == sector ? (int64_t)(first & 0xffffff) : -1;
}

/* What libpmem2 is told makes stores durable: "CACHE_LINE", as on DAX, which needs no msync
 * and is tried on any file here; NULL: what libpmem2 finds out. */
static inline void force_persist(const char *how)
{
	if (how)
		setenv("PMEM2_FORCE_GRANULARITY", how, 1);
	else
		unsetenv("PMEM2_FORCE_GRANULARITY");
}

/* Runs all tests as the file is, and again as if it were DAX.  In two statements: the operands
 * of | may be evaluated in any order. */
#define RUN_BOTH(tests)								\
	({									\
		int failed__;							\
										\
		force_persist(NULL);						\
		failed__ = cmocka_run_group_tests_name("as it is", tests, NULL, NULL);	\
		force_persist("CACHE_LINE");					\
		failed__ += cmocka_run_group_tests_name("as DAX", tests, NULL, NULL);	\
		failed__;							\
	})

static inline bool all_zero(const void *buf, size_t len)
{
	const char *c = buf;

	for (size_t i = 0; i < len; i++)
		if (c[i])
			return false;
	return true;
}

#endif
