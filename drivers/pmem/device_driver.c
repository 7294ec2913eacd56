/* SPDX-License-Identifier: MIT */
/* The device by its names: pmem, and dax.  (As a region that is served: driver.c.) */
#include "drivers/driver.h"
#include "zonedev/page.h"
#include "zonedev/pmem_device.h"

enum { PMEM_PATH, PMEM_SIZE, PMEM_FORCE };
enum { DAX_PATH, DAX_FORCE };

static int pmem_create(const struct zd_driver_value *values, struct zd_device **dev, char *err,
		       size_t errlen)
{
	unsigned int flags = values[PMEM_FORCE].number ? ZD_PMEM_DEVICE_FORCE : 0;

	return zd_pmem_device_create(values[PMEM_PATH].text, values[PMEM_SIZE].number, flags, dev,
				     err, errlen);
}

static int dax_create(const struct zd_driver_value *values, struct zd_device **dev, char *err,
		      size_t errlen)
{
	unsigned int flags = values[DAX_FORCE].number ? ZD_PMEM_DEVICE_FORCE : 0;

	return zd_pmem_device_create(values[DAX_PATH].text, 0, flags | ZD_PMEM_DEVICE_DAX, dev, err,
				     errlen);
}

static const struct zd_driver_key pmem_keys[] = {
	[PMEM_PATH] = {
		.name = "path", .type = ZD_KEY_PATH,
		.help = "a file on a DAX mount or in memory, made if it isn't there, and unlinked at once; a block device; or memfd:NAME",
	},
	[PMEM_SIZE] = {
		.name = "size", .type = ZD_KEY_SIZE, .min = ZD_DRIVER_MIN_BYTES,
		.multiple_of = ZD_PAGE_SIZE,
		.without = "the size of what is there",
		.help = "of a file that is made or empty, and of memfd:NAME",
	},
	[PMEM_FORCE] = {
		.name = "force", .type = ZD_KEY_SWITCH,
		.without = "one that holds data is refused",
		.help = "overwrite what it holds",
	},
	{ 0 }
};

static const struct zd_driver_key dax_keys[] = {
	[DAX_PATH] = {
		.name = "path", .type = ZD_KEY_PATH,
		.help = "a device-dax node; or, to try it out, a file whose length is a multiple of 2 MiB",
	},
	[DAX_FORCE] = {
		.name = "force", .type = ZD_KEY_SWITCH,
		.without = "one that holds data is refused",
		.help = "overwrite what it holds",
	},
	{ 0 }
};

const struct zd_driver zd_pmem_device_driver = {
	.size = sizeof(zd_pmem_device_driver),
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_RUN,
	.name = "pmem",
	.summary = "persistent memory, its pages read and written where they are",
	.example = "pmem:/mnt/dax/device,size=8G",
	.keys = pmem_keys,
	.create = pmem_create,
};

const struct zd_driver zd_dax_device_driver = {
	.size = sizeof(zd_dax_device_driver),
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_RUN,
	.name = "dax",
	.summary =
		"device-dax, as CXL memory and persistent memory have it, its pages read and written where they are",
	.example = "dax:/dev/dax0.0",
	.keys = dax_keys,
	.create = dax_create,
};
