/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"

#define PRELOAD_NAME	"libzonedev-preload.so"

static bool try_path(char *path, size_t len, const char *dir, const char *sub)
{
	int n = snprintf(path, len, "%s%s/" PRELOAD_NAME, dir, sub);

	return n > 0 && (size_t)n < len && !access(path, R_OK);
}

int cmd_find_preload(char *path, size_t len)
{
	char dir[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	if (n > 0) {
		dir[n] = '\0';
		*strrchr(dir, '/') = '\0';
		if (try_path(path, len, dir, "") ||
		    try_path(path, len, dir, "/" ZD_PRELOAD_FROM_BINDIR))
			return 0;
	}
	if (try_path(path, len, ZD_PRELOAD_DIR, ""))
		return 0;
	if (n > 0)
		snprintf(path, len, "%s/" PRELOAD_NAME, dir);
	return -ENOENT;
}
