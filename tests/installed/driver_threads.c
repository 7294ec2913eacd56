/* SPDX-License-Identifier: MIT */
/* The drivers to copy that have threads, as plugins of installed_driver_threads.sh: "async", or a
 * file's path. */
#include <stdio.h>
#include <string.h>
#include <zonedev/driver.h>

#include "example_async.c"
#include "example_blocking.c"

enum { WHICH, SIZE };

static int create(const struct zd_driver_value *values, struct zd_device **dev, char *err,
		  size_t errlen)
{
	uint64_t nr_pages = values[SIZE].number / ZD_PAGE_SIZE;
	int rc = strcmp(values[WHICH].text, "async") ?
			 example_blocking_device_create(values[WHICH].text, nr_pages, dev) :
			 example_async_device_create(nr_pages, dev);

	if (rc)
		snprintf(err, errlen, "no device: %s", strerror(-rc));
	return rc;
}

static const struct zd_driver_key keys[] = {
	[WHICH] = { .name = "which", .type = ZD_KEY_TEXT, .help = "async, or a path" },
	[SIZE] = { .name = "size", .type = ZD_KEY_SIZE, .help = "how much of it" },
	{ 0 }
};

static const struct zd_driver driver = {
	.size = sizeof(driver),
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_RUN,
	.name = "threads",
	.summary = "a driver with threads",
	.example = "threads:async,size=64M",
	.keys = keys,
	.create = create,
};
ZD_PLUGIN(driver);
