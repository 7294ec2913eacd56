/* SPDX-License-Identifier: MIT */
/* drivers/empty_file.h - a file whose mappings raise SIGBUS. */
#ifndef ZD_DRIVERS_EMPTY_FILE_H
#define ZD_DRIVERS_EMPTY_FILE_H

/*
 * zd_make_empty_file - a memfd that stays empty: a thread that touches a mapping of it gets
 * SIGBUS.  The descriptor, or -errno.  Any thread.
 */
int zd_make_empty_file(void);

#endif
