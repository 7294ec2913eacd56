/* SPDX-License-Identifier: MIT */
/*
 * drivers/media/record.h - where the record of a region is stored: beside the file's
 * content, not in it.
 *
 * In the file's extended attribute user.zonedev.region, which stays with the file when it
 * is renamed, and goes with it.  Where there are none (NFS before 4.2, tmpfs before Linux
 * 6.6), or the list is too long for one, in a file PATH.zonedev; the attribute, if there
 * can be one, then says so.  All numbers are little-endian:
 *
 *	0	char[8]	"ZDREGION"
 *	8	u64	bytes of the region
 *	16	u32[2]	ranges that are bad; 2^32 - 1: all is in PATH.zonedev.  Ranges that
 *			were mended, but not durably: bad after the system was started anew
 *	24	u64	by a hash of its boot_id
 *	32	u64[2]	inode and time of birth of the file
 *	48	u64	CRC-32C of all but this
 *	56		the ranges of the two lists, each ascending: sectors from the end of
 *			the one before, and how many; in 7 bits a byte, the lowest first,
 *			128 added to all but a number's last; zeros up to a multiple of 8
 */
#ifndef ZD_DRIVERS_MEDIA_RECORD_H
#define ZD_DRIVERS_MEDIA_RECORD_H

#include "drivers/pmem/pmem.h"

#define ZD_RECORD_NAME	"user.zonedev.region"
#define ZD_RECORD_FILE	".zonedev"

struct zd_record {
	uint64_t bytes;
	struct zd_badblocks bad, mended;
};

void zd_record_exit(struct zd_record *r);

/*
 * zd_record_load - what is in @m's; what was mended before the system started is bad.
 * 0, then zd_record_exit(); -ENODATA: there is none; -EUCLEAN: damaged; -ENOENT: its PATH.zonedev
 * is gone; -ESTALE: PATH.zonedev is of another file; -errno: can't be read.
 * zd_record_store - whole or not at all.  0 or -errno.  The attribute is durable after
 * zd_record_sync().
 */
int zd_record_load(struct zd_media *m, struct zd_record *r);
int zd_record_store(struct zd_media *m, const struct zd_record *r);
int zd_record_sync(struct zd_media *m);

/* The path of the media's file, as it is now, and @suffix.  0 or -errno. */
int zd_record_path(const struct zd_media *m, const char *suffix, char *path, size_t len);

#endif
