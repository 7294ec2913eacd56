/* SPDX-License-Identifier: MIT */
/* drivers/pmem/device_medium.h - from a path to a medium that is safe to be a device. */
#ifndef ZD_DRIVERS_PMEM_DEVICE_MEDIUM_H
#define ZD_DRIVERS_PMEM_DEVICE_MEDIUM_H

#include <stddef.h>
#include <stdint.h>

#include "drivers/media/media.h"

/*
 * zd_device_medium_open - open, lock and map @m, zeroed, as zd_pmem_device_create() has it
 * (@bytes, @flags).  m->pages lacks an owner and the lock, which the caller sets, and a file
 * for poison.  0; or -errno and a line for the user, and nothing is left open.
 *
 * zd_device_medium_clear - leave no data in a medium that outlives the device; @name is the
 * device's, for the log.
 * zd_device_medium_close - the rest of its end.
 *
 * The thread that creates or destroys the device; they block.
 */
int zd_device_medium_open(const char *path, uint64_t bytes, unsigned int flags, struct zd_media *m,
			  char *err, size_t errlen);
void zd_device_medium_clear(struct zd_media *m, const char *name);
void zd_device_medium_close(struct zd_media *m);

#endif
