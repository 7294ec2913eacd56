/* SPDX-License-Identifier: MIT */
/* Where the library is that `zonedev run` preloads. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"

static bool try_path(char *path, size_t len, const char *dir, const char *sub, const char *name)
{
	int n = snprintf(path, len, "%s%s/%s", dir, sub, name);

	return n > 0 && (size_t)n < len && !access(path, R_OK);
}

/* @beside, @installed: relative to the command's directory.  @configured: where
 * meson was told to put it. */
static int find(char *path, size_t len, const char *name, const char *beside, const char *installed,
		const char *configured)
{
	char dir[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	if (n > 0) {
		dir[n] = '\0';
		*strrchr(dir, '/') = '\0';
		if (try_path(path, len, dir, beside, name) ||
		    try_path(path, len, dir, installed, name))
			return 0;
	}
	if (try_path(path, len, configured, "", name))
		return 0;
	if (n > 0)
		snprintf(path, len, "%s%s/%s", dir, beside, name);
	return -ENOENT;
}

int cmd_find_preload(char *path, size_t len)
{
	return find(path, len, "libzonedev-preload.so", "", "/" ZD_PRELOAD_FROM_BINDIR,
		    ZD_PRELOAD_DIR);
}
