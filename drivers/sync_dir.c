/* SPDX-License-Identifier: MIT */
#include "drivers/sync_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"

int zd_sync_dir(const char *path)
{
	size_t len = strlen(path) + 1;
	char *copy = zd_alloc(len);
	int fd, rc = 0;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(memcpy(copy, path, len)), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	zd_free(copy);
	/* not every file system can sync a directory; all that need it can */
	if (fd >= 0 && fsync(fd) && errno != EINVAL)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	return rc;
}
