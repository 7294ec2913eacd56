/* SPDX-License-Identifier: MIT */
/* The pmem driver of regions, by its name.  (As a device: device_driver.c.) */
#include "drivers/pmem/driver.h"

#include "zonedev/page.h"

enum { PMEM_PATH, PMEM_SIZE, PMEM_BTT };

void zd_pmem_attr_by_values(struct zd_pmem_attr *attr, const struct zd_driver_value *values)
{
	*attr = (struct zd_pmem_attr){
		.size = sizeof(*attr),
		.flags = values[PMEM_BTT].number ? ZD_PMEM_BTT : 0,
		.bytes = values[PMEM_SIZE].number,
	};
}

static const struct zd_driver_key pmem_keys[] = {
	[PMEM_PATH] = {
		.name = "path", .type = ZD_KEY_PATH,
		.help = "a file, made if it isn't there; a file on a DAX mount; a block device; or memfd:NAME, memory that ends with the server",
	},
	[PMEM_SIZE] = {
		.name = "size", .type = ZD_KEY_SIZE, .multiple_of = ZD_PAGE_SIZE,
		.without = "the size of what is there",
		.help = "of a region that is made",
	},
	[PMEM_BTT] = {
		.name = "btt", .type = ZD_KEY_SWITCH,
		.without = "the file's content is the disk's",
		.help = "each aligned block of 4 KiB is written as a whole or not at all",
	},
	{ 0 }
};

/* No device: what the server opens is a region, by zd_pmem_open(). */
const struct zd_driver zd_pmem_driver = {
	.size = sizeof(zd_pmem_driver),
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_SERVE,
	.name = "pmem",
	.summary = "persistent memory, as a disk for NBD clients",
	.example = "pmem:/var/tmp/region,size=8G",
	.keys = pmem_keys,
};
