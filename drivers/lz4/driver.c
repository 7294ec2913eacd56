/* SPDX-License-Identifier: MIT */
/* The lz4 driver by its name. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "drivers/explain.h"
#include "zonedev/driver.h"
#include "zonedev/lz4.h"

enum { LZ4_MAX, LZ4_LEVEL };

static uint64_t max_bytes(const struct zd_driver_value *max)
{
	if (!max->percent)
		return max->number;
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 100 * max->number;
}

static int lz4_create(const struct zd_driver_value *values, struct zd_device **dev, char *err,
		      size_t errlen)
{
	uint64_t max = max_bytes(&values[LZ4_MAX]);
	int ret = zd_lz4_device_create(max, values[LZ4_LEVEL].number, dev);

	if (!ret)
		return 0;
	if (ret == -EINVAL)
		return zd_explain(err, errlen, ret,
				  "lz4 device: max= is %llu bytes: give between 2M and 1T",
				  (unsigned long long)max);
	return zd_explain(err, errlen, ret,
			  "lz4 device: %s: give a smaller max=", strerrordesc_np(-ret));
}

static const struct zd_driver_key lz4_keys[] = {
	[LZ4_MAX] = {
		.name = "max", .type = ZD_KEY_SIZE_OR_PERCENT, .min = ZD_DRIVER_MIN_BYTES,
		.without = "50%",
		.help = "the most RAM that compressed pages may take, or how much of the machine's",
	},
	[LZ4_LEVEL] = {
		.name = "level", .type = ZD_KEY_NUMBER, .min = ZD_LZ4_LEVEL_FAST,
		.max = ZD_LZ4_LEVEL_MAX, .without = "1",
		.help = "1 is fast; 2 to 12 are LZ4HC, which makes pages smaller and takes longer to store them",
	},
	{ 0 }
};

const struct zd_driver zd_lz4_driver = {
	.size = sizeof(zd_lz4_driver),
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_RUN,
	.name = "lz4",
	.summary = "compressed RAM: pages that get an eighth smaller, or more",
	.example = "lz4:max=1G",
	.keys = lz4_keys,
	.create = lz4_create,
};
