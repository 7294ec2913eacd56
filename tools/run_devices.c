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
#include "zonedev/lz4.h"

#define LZ4_MAX		(UINT64_C(1) << 40)	/* what zd_lz4_device_create() takes */

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
	return zd_spec_create(&spec, dev, err, len);
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

/* --- where none are named --- */

/* The file: what doesn't compress, and more than compressed RAM may hold.  0, and @why says nothing;
 * or why there is none. */
static int open_unlinked_file(const struct run *run, struct zd_device **dev, char *why, size_t len)
{
	int rc = zd_file_device_create(NULL, 0, 0, dev);

	if (rc == -EINVAL && run->in.limit[RLIMIT_FSIZE].rlim_max != RLIM_INFINITY)
		snprintf(why, len,
			 "ulimit -f lets a file have %llu KiB only, too little for a device",
			 (unsigned long long)run->in.limit[RLIMIT_FSIZE].rlim_max >> 10);
	else if (rc)
		snprintf(why, len, "can't make a file for a device in $TMPDIR or /var/tmp: %s",
			 strerrordesc_np(-rc));
	return rc;
}

/* Compressed RAM, which at its largest could be all of --ram; the server keeps it to its share. */
static int open_compressed(const struct run *run, struct zd_device **dev)
{
	uint64_t max = run->opt.ram < LZ4_MAX ? run->opt.ram : LZ4_MAX;

	return zd_lz4_device_create(max, 0, dev);
}

/* Compressed RAM, then a file: the one that can be had where the other can't. */
static int open_default(struct run *run)
{
	struct zd_device *lz4, *file;
	char why[256];
	int no_lz4 = open_compressed(run, &lz4), no_file, rc = 0;

	no_file = open_unlinked_file(run, &file, why, sizeof(why));
	if (no_lz4 && no_file)
		return cmd_error("%s: mend that, or name a device with --device", why);
	if (no_lz4)
		zd_log(ZD_LOG_WARN, "no compressed RAM: %s; all that goes out goes to a file",
		       strerrordesc_np(-no_lz4));
	else
		rc = add_device(run, "lz4", lz4);
	if (no_file)
		zd_log(ZD_LOG_WARN,
		       "%s: pages that don't compress stay in RAM (name a device with "
		       "--device)",
		       why);
	else if (rc)
		zd_device_unregister(file);
	else
		rc = add_device(run, "file", file);
	return rc;
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
