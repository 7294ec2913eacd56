/* SPDX-License-Identifier: MIT */
/* What the file driver's tests share: a directory that is empty at their end. */
#ifndef ZD_TESTS_UNIT_DRIVERS_FILE_COMMON_H
#define ZD_TESTS_UNIT_DRIVERS_FILE_COMMON_H

#include "drivers_common.h"

#include <sys/stat.h>

#include "drivers/file/file.h"

#define NR_PAGES 1024
#define SIZE (NR_PAGES * ZD_PAGE_SIZE)

static char dir[64];

static inline const char *in_dir(const char *name)
{
	static char path[2][128];
	static unsigned int turn;
	char *p = path[turn++ & 1];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static inline struct stat file_stat(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st;
}

/* Run the tests, which must leave the directory empty and no descriptor open. */
static inline int run_in_dir(const char *name, const struct CMUnitTest *tests, size_t nr)
{
	unsigned int fds;
	int ret;

	snprintf(dir, sizeof(dir), "%.32s/zd-file.XXXXXX", test_dir());
	if (!mkdtemp(dir)) {
		puts("SKIP: no directory to write to");
		return 77;
	}
	fds = count_fds();
	ret = _cmocka_run_group_tests(name, tests, nr, NULL, NULL);
	if (!ret && count_fds() != fds) {
		fprintf(stderr, "descriptors leak\n");
		ret = 1;
	}
	rmdir(dir);
	return ret;
}

#endif
