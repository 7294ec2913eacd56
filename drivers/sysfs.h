/* SPDX-License-Identifier: MIT */
/*
 * drivers/sysfs.h - what sysfs says of a device, by its number: /sys/dev/block/8:1.
 *
 * @mode, @rdev: st_mode and st_rdev of the device's node.  All calls may block.  Any thread.
 */
#ifndef ZD_DRIVERS_SYSFS_H
#define ZD_DRIVERS_SYSFS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* zd_sysfs_read - an attribute, as text.  0; -ENODEV: it is empty; -errno. */
int zd_sysfs_read(mode_t mode, dev_t rdev, const char *attr, char *text, size_t len);

/* zd_sysfs_read_u64 - one that is a number.  0; -ENODEV: it is none; -errno. */
int zd_sysfs_read_u64(mode_t mode, dev_t rdev, const char *attr, uint64_t *value);

/* zd_sysfs_subsystem - the name of the device's subsystem.  0 or -ENODEV. */
int zd_sysfs_subsystem(mode_t mode, dev_t rdev, char *name, size_t len);

#endif
