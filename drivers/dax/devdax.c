/* SPDX-License-Identifier: MIT */
/* What sysfs says of a device-dax node. */
#include "drivers/dax/devdax.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "drivers/sysfs.h"

int zd_devdax_probe(dev_t rdev, uint64_t *size, uint64_t *align)
{
	char subsystem[64];
	int rc;

	if (zd_sysfs_subsystem(S_IFCHR, rdev, subsystem, sizeof(subsystem)) ||
	    strcmp(subsystem, "dax"))
		return -ENODEV;
	rc = zd_sysfs_read_u64(S_IFCHR, rdev, "size", size);
	return rc ? rc : zd_sysfs_read_u64(S_IFCHR, rdev, "align", align);
}
