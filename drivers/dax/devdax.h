/* SPDX-License-Identifier: MIT */
#ifndef ZD_DRIVERS_DAX_DEVDAX_H
#define ZD_DRIVERS_DAX_DEVDAX_H

#include <stdint.h>
#include <sys/types.h>

/*
 * zd_devdax_probe - how long the device-dax node @rdev is, and the alignment that the
 * kernel demands of each mapping of it: address, offset and length; 4 KiB, 2 MiB or 1 GiB.
 * 0; -ENODEV: it is another device; -errno.
 */
int zd_devdax_probe(dev_t rdev, uint64_t *size, uint64_t *align);

#endif
