/* SPDX-License-Identifier: MIT */
/* drivers/media/record_store.h - a region's record loaded and stored. */
#ifndef ZD_DRIVERS_MEDIA_RECORD_STORE_H
#define ZD_DRIVERS_MEDIA_RECORD_STORE_H

#include "drivers/media/record_form.h"

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
