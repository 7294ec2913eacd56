/* SPDX-License-Identifier: MIT */
/* The file driver by its name, and what its errors mean to the user. */
#include <errno.h>
#include <string.h>

#include "drivers/driver.h"
#include "drivers/explain.h"
#include "zonedev/file.h"

enum { FILE_PATH, FILE_SIZE, FILE_FORCE };

static int explain(const char *path, uint64_t bytes, int rc, char *err, size_t errlen)
{
	switch (rc) {
	case -EEXIST:
		return zd_explain(
			err, errlen, rc,
			"%s holds data: name a new or empty file, or overwrite it with force=on",
			path);
	case -EBUSY:
		return zd_explain(err, errlen, rc, "%s is in use: unmount it or name another",
				  path);
	case -ENOTBLK:
		return zd_explain(err, errlen, rc,
				  "%s is neither a file nor a block device: name one", path);
	case -EISDIR:
		return zd_explain(err, errlen, rc, "%s is a directory: name a file in it", path);
	case -ENOENT:
		return zd_explain(err, errlen, rc,
				  "%s: there is no such directory: make it or name another", path);
	case -EFBIG:
	case -ENOSPC:
		return zd_explain(err, errlen, rc,
				  "%s: there is no room for size=%llu: give a smaller size", path,
				  (unsigned long long)bytes);
	case -EINVAL:
		return zd_explain(err, errlen, rc,
				  "%s: can't tell how large it may be: add size=8G", path);
	default:
		return zd_explain(err, errlen, rc,
				  "%s: %s: name a file that you may read and write", path,
				  strerror(-rc));
	}
}

static int file_create(const struct zd_driver_value *values, struct zd_device **dev, char *err,
		       size_t errlen)
{
	const char *path = values[FILE_PATH].text;
	uint64_t bytes = values[FILE_SIZE].number;
	int rc = zd_file_device_create(path, bytes, values[FILE_FORCE].number ? ZD_FILE_FORCE : 0,
				       dev);

	return rc ? explain(path, bytes, rc, err, errlen) : 0;
}

static const struct zd_driver_key file_keys[] = {
	[FILE_PATH] = {
		.name = "path", .type = ZD_KEY_PATH,
		.help = "a file or a block device; a file that isn't there is made, and unlinked at once",
	},
	[FILE_SIZE] = {
		.name = "size", .type = ZD_KEY_SIZE, .min = ZD_DRIVER_MIN_BYTES,
		.without = "the size of the block device, or what the file system has free",
		.help = "how much of it is used; a file grows as it is needed",
	},
	[FILE_FORCE] = {
		.name = "force", .type = ZD_KEY_SWITCH,
		.without = "one that holds data is refused",
		.help = "overwrite what it holds",
	},
	{ 0 }
};

const struct zd_driver zd_file_driver = {
	.size = sizeof(zd_file_driver),
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_RUN,
	.name = "file",
	.summary = "a file or a block device, by O_DIRECT and io_uring where it has them",
	.example = "file:/var/tmp/device,size=8G",
	.keys = file_keys,
	.create = file_create,
};
