/* SPDX-License-Identifier: MIT */
/*
 * drivers/label.h - does a medium hold data that must not be overwritten?
 *
 * Partition tables, the superblocks of file systems and volume managers stand in a block
 * device's first MiB, the label: a device whose label is all zeros is free to be used.  Of a
 * file with holes all that isn't a hole can be examined instead.
 */
#ifndef ZD_DRIVERS_LABEL_H
#define ZD_DRIVERS_LABEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZD_LABEL_BYTES	(UINT64_C(1) << 20)

/*
 * struct zd_scan_ops - how a medium is read.
 *
 * @extent: how many of the @len bytes from @off on are of one kind, data or a hole; > 0, or
 *	-errno.  NULL: the medium has no holes.
 * @read: exactly @len bytes from @off on.  0 or -errno.
 */
struct zd_scan_ops {
	int64_t (*extent)(void *medium, uint64_t off, uint64_t len, bool *hole);
	int (*read)(void *medium, uint64_t off, char *buf, size_t len);
};

/*
 * zd_scan_has_data - is there a byte other than 0 in [0, end)?  1 or 0; -errno.
 * Blocks as long as the medium does.
 */
int zd_scan_has_data(const struct zd_scan_ops *ops, void *medium, uint64_t end);

/*
 * zd_label_clear - give the storage of a block device's first @bytes back, and see to it that
 * its label is zeros.  0 or -errno.  Blocks.
 */
int zd_label_clear(int fd, uint64_t bytes);

#endif
