/* SPDX-License-Identifier: MIT */
/*
 * drivers/driver.h - the drivers that zonedev is built with, each defined in its folder's driver.c.
 *
 * To add one: define its struct zd_driver (zonedev/driver.h), declare that below, and add it to the
 * table in drivers/registry/registry.c.  The lists in the man pages follow by scripts/man-devices.
 */
#ifndef ZD_DRIVERS_DRIVER_H
#define ZD_DRIVERS_DRIVER_H

#include "zonedev/driver.h"

extern const struct zd_driver zd_ram_driver;
extern const struct zd_driver zd_file_driver;
extern const struct zd_driver zd_lz4_driver;
extern const struct zd_driver zd_nbd_driver;
extern const struct zd_driver zd_pmem_driver;		/* a region, to be served */
extern const struct zd_driver zd_pmem_device_driver;
extern const struct zd_driver zd_dax_device_driver;

#endif
