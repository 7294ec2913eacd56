/* SPDX-License-Identifier: MIT */
/* The devices of `zonedev run`: those that were named, or the default. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "drivers/registry/spec.h"
#include "run/run.h"
#include "run/tiers.h"
#include "tools/cmd.h"
#include "tools/run_devices.h"
#include "zonedev/device.h"
#include "zonedev/log.h"

/* @spec in @out, with size=@bytes in place of the size that it has.  0 or -errno. */
static int with_size(const char *spec, uint64_t bytes, char *out, size_t len)
{
	const char *size = strstr(spec, ",size=");
	size_t before = size ? (size_t)(size - spec) : strlen(spec);
	const char *after = size ? strchrnul(size + 1, ',') : "";

	return (size_t)snprintf(out, len, "%.*s,size=%llu%s", (int)before, spec,
				(unsigned long long)bytes, after) < len ?
		       0 :
		       -ENAMETOOLONG;
}

/* zd_device_open_spec(), and the driver's name, which is constant. */
static int open_spec(const char *text, const char **driver, struct zd_device **dev, char *err,
		     size_t len)
{
	struct zd_spec spec;
	int rc = zd_spec_parse(text, ZD_DRIVER_RUN, &spec, err, len);

	if (rc)
		return rc;
	*driver = spec.driver->name;
	return spec.driver->create(spec.values, dev, err, len);
}

/* After @rc = -EFBIG: where the user's limit of file sizes can't be raised, it binds the
 * supervisor as well.  Then the file is as large as it may be, and what doesn't fit goes to the
 * next device, or stays in RAM. */
static int open_within_limit(const char *device, const char **driver, struct zd_device **dev,
			     int rc, char *err, size_t len)
{
	struct rlimit limit;
	char spec[PATH_MAX + 256];

	if (rc != -EFBIG || getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur == RLIM_INFINITY ||
	    with_size(device, limit.rlim_cur, spec, sizeof(spec)))
		return rc;
	rc = open_spec(spec, driver, dev, err, len);
	if (!rc)
		zd_log(ZD_LOG_WARN, "ulimit -f lets a file have %llu KiB: the device is no larger",
		       (unsigned long long)limit.rlim_cur >> 10);
	else if (rc == -EINVAL || rc == -EFBIG)
		snprintf(err, len,
			 "ulimit -f lets a file have %llu KiB only: raise it, or name a "
			 "block device or ram:size=SIZE",
			 (unsigned long long)limit.rlim_cur >> 10);
	return rc;
}

static int open_device(const char *device, const char **driver, struct zd_device **dev)
{
	char err[512];
	int rc = open_spec(device, driver, dev, err, sizeof(err));

	if (rc && open_within_limit(device, driver, dev, rc, err, sizeof(err)))
		return cmd_error("--device %s: %s", device, err);
	return 0;
}

static int add_device(struct run *run, const char *driver, struct zd_device *dev)
{
	int rc = tiers_add(run, driver, dev);

	if (!rc)
		return 0;
	zd_device_unregister(dev);
	return cmd_error("can't start: %s", strerrordesc_np(-rc));
}

/* An unlinked file. */
static int open_default(struct run *run)
{
	struct zd_device *dev;
	int rc = zd_file_device_create(NULL, 0, 0, &dev);

	if (rc == -EINVAL && run->in.limit[RLIMIT_FSIZE].rlim_max != RLIM_INFINITY)
		return cmd_error(
			"ulimit -f lets a file have %llu KiB only, too little for a device: "
			"raise it, or name a device with --device",
			(unsigned long long)run->in.limit[RLIMIT_FSIZE].rlim_max >> 10);
	if (rc)
		return cmd_error("can't make a file for the device in $TMPDIR or /var/tmp: %s "
				 "(name a device with --device)",
				 strerrordesc_np(-rc));
	return add_device(run, "file", dev);
}

int run_devices_open(struct run *run)
{
	struct zd_device *dev;
	const char *driver;
	int rc = 0;

	for (unsigned int i = 0; i < run->opt.nr_devices && !rc; i++) {
		rc = open_device(run->opt.device[i], &driver, &dev);
		if (!rc)
			rc = add_device(run, driver, dev);
	}
	if (!run->opt.nr_devices)
		rc = open_default(run);
	if (rc)
		tiers_close(run);
	return rc;
}
