/* SPDX-License-Identifier: MIT */
/*
 * drivers/media/record_form.h - where the record of a region is stored: beside the file's
 * content, not in it.
 *
 * In the file's extended attribute user.zonedev.region, which stays with the file when that
 * is renamed, and goes when it is removed.  Where there are no attributes (NFS before 4.2,
 * tmpfs before Linux 6.6), or the list is too long for one, in a file PATH.zonedev; the
 * attribute, if there can be one, then says so.  All numbers are little-endian:
 *
 *	0	char[8]	"ZDREGION"
 *	8	u64	bytes of the region
 *	16	u32[2]	how many ranges are bad; 2^32 - 1: all is in PATH.zonedev.  How many
 *			were mended, but not durably: bad after the system was started anew
 *	24	u64	the boot in which they were mended, by a hash of its boot_id
 *	32	u64[2]	inode and time of birth of the file
 *	48	u64	CRC-32C of all but this
 *	56		the ranges of the two lists, each ascending: sectors from the end of
 *			the one before, and how many; in 7 bits a byte, the lowest first,
 *			128 added to all but a number's last; zeros up to a multiple of 8
 */
#ifndef ZD_DRIVERS_MEDIA_RECORD_FORM_H
#define ZD_DRIVERS_MEDIA_RECORD_FORM_H

#include "drivers/media/media.h"

#define ZD_RECORD_NAME	"user.zonedev.region"
#define ZD_RECORD_FILE	".zonedev"

struct zd_record {
	uint64_t bytes;
	struct zd_badblocks bad, mended;
};

void zd_record_exit(struct zd_record *r);

struct zd_record_head {
	char magic[8];
	uint64_t bytes;
	uint32_t nr_bad, nr_mended;
	uint64_t boot, ino, born_ns, checksum;
};

/*
 * zd_record_encode - the record of the file @id, or with @elsewhere one that says that the
 * ranges are in PATH.zonedev: *@len bytes, zd_alloc()ed.  NULL: no memory.
 * zd_record_decode - @r, zeroed, and *@head are what @buf says; what was mended before the
 * system started is bad.  0, then zd_record_exit(); 1: the ranges are in PATH.zonedev;
 * -EUCLEAN: damaged; -ENOMEM.
 */
char *zd_record_encode(const struct zd_media_identity *id, const struct zd_record *r,
		       bool elsewhere, size_t *len);
int zd_record_decode(const char *buf, size_t len, struct zd_record *r, struct zd_record_head *head);

#endif
