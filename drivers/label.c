/* SPDX-License-Identifier: MIT */
#include "drivers/label.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/alloc.h"

#define CHUNK	65536

static bool is_zero(const char *buf, size_t len)
{
	return !buf[0] && !memcmp(buf, buf + 1, len - 1);
}

int zd_scan_has_data(const struct zd_scan_ops *ops, void *medium, uint64_t end)
{
	char *buf = zd_alloc(CHUNK);
	int rc = 0;

	if (!buf)
		return -ENOMEM;
	for (uint64_t off = 0; off < end && !rc;) {
		bool hole = false;
		int64_t run = ops->extent ? ops->extent(medium, off, end - off, &hole) :
					    (int64_t)(end - off);

		if (run <= 0) {
			rc = run ? (int)run : -EIO;
			break;
		}
		if (!hole) {
			run = run < CHUNK ? run : CHUNK;
			rc = ops->read(medium, off, buf, run);
			if (!rc && !is_zero(buf, run))
				rc = 1;
		}
		off += run;
	}
	zd_free(buf);
	return rc;
}

int zd_label_clear(int fd, uint64_t bytes)
{
	uint64_t range[2] = { 0, bytes };

	ioctl(fd, BLKDISCARD, range);	/* where it can */
	if (range[1] > ZD_LABEL_BYTES)
		range[1] = ZD_LABEL_BYTES;
	return ioctl(fd, BLKZEROOUT, range) ? -errno : 0;
}
