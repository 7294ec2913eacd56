/* SPDX-License-Identifier: MIT */
/* The ram driver by its name. */
#include <string.h>

#include "drivers/driver.h"
#include "drivers/explain.h"
#include "zonedev/ram.h"

enum { RAM_SIZE };

static int ram_create(const struct zd_driver_value *values, struct zd_device **dev, char *err,
		      size_t errlen)
{
	int ret = zd_ram_device_create(values[RAM_SIZE].number, dev);

	if (!ret)
		return 0;
	return zd_explain(err, errlen, ret,
			  "ram device: can't have %llu bytes (%s): give a smaller size",
			  (unsigned long long)values[RAM_SIZE].number, strerrordesc_np(-ret));
}

static const struct zd_driver_key ram_keys[] = {
	[RAM_SIZE] = {
		.name = "size", .type = ZD_KEY_SIZE, .min = ZD_DRIVER_MIN_BYTES,
		.help = "how much of it",
	},
	{ 0 }
};

const struct zd_driver zd_ram_driver = {
	.size = sizeof(zd_ram_driver),
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_RUN,
	.name = "ram",
	.summary = "memory that the program can't see: to try things out without a disk",
	.example = "ram:size=1G",
	.keys = ram_keys,
	.create = ram_create,
};
