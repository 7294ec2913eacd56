/* SPDX-License-Identifier: MIT */
/* From a path to a device, by what the medium there is. */
#include <errno.h>
#include <string.h>

#include "drivers/explain.h"
#include "drivers/pmem/device.h"
#include "zonedev/pmem_device.h"

int zd_pmem_device_create(const char *path, uint64_t bytes, unsigned int flags,
			  struct zd_device **dev, char *err, size_t errlen)
{
	struct zd_device_medium *medium;
	int rc;

	if (!path || !dev || flags & ~(ZD_PMEM_DEVICE_FORCE | ZD_PMEM_DEVICE_DAX))
		return zd_explain(err, errlen, -EINVAL, "no path, or unknown flags");
	rc = zd_device_medium_open(path, bytes, flags, &medium, err, errlen);
	if (rc)
		return rc;
	rc = zd_device_medium_waits(medium) ? zd_pmem_device_on_disk(medium, dev) :
					      zd_pmem_device_in_memory(medium, dev);
	if (!rc)
		return 0;
	zd_device_medium_close(medium);
	return zd_explain(err, errlen, rc, "%s can't be a device: %s", path, strerrordesc_np(-rc));
}

int zd_pmem_device_inject_poison(struct zd_device *dev, uint64_t page, uint64_t nr)
{
	if (!dev || dev->ops != &zd_pmem_device_ops || page > dev->nr_pages ||
	    nr > dev->nr_pages - page)
		return -EINVAL;
	return zd_device_medium_poison(((struct zd_pmem_device *)dev->private_data)->medium, page,
				       nr);
}
