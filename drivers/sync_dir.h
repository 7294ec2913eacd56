/* SPDX-License-Identifier: MIT */
/* drivers/sync_dir.h - a file's name made durable: an fsync() of the file alone isn't enough. */
#ifndef ZD_DRIVERS_SYNC_DIR_H
#define ZD_DRIVERS_SYNC_DIR_H

/* zd_sync_dir - fsync() the directory that @path is in.  0 or -errno.  Blocks. */
int zd_sync_dir(const char *path);

#endif
