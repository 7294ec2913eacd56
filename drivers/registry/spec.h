/* SPDX-License-Identifier: MIT */
/* drivers/registry/spec.h - a driver and what it is given, from the command line. */
#ifndef ZD_DRIVERS_REGISTRY_SPEC_H
#define ZD_DRIVERS_REGISTRY_SPEC_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "drivers/driver.h"

/* struct zd_spec - @values: in the order of the driver's keys; texts point into @text, and the one
 * that stands first is at its beginning. */
struct zd_spec {
	const struct zd_driver *driver;
	struct zd_driver_value values[ZD_DRIVER_MAX_KEYS];
	char text[2 * PATH_MAX];
};

/*
 * zd_spec_parse - DRIVER:[PATH,]KEY=VALUE,... of a driver that is for @command, ZD_DRIVER_RUN
 * or ZD_DRIVER_SERVE; or SCHEME://...,KEY=VALUE,... of one that has that scheme.  A comma in a
 * value is written twice.  Opens no device.  @spec must stay where it is while its values are used.
 * 0; -EINVAL, -ERANGE or -ENAMETOOLONG, and one line in @err, as zd_device_open_spec() has it.
 */
int zd_spec_parse(const char *text, uint32_t command, struct zd_spec *spec, char *err,
		  size_t errlen);

/* zd_spec_create - the device that is spelt so, of a driver for ZD_DRIVER_RUN; as
 * zd_device_open_spec() has it. */
int zd_spec_create(const struct zd_spec *spec, struct zd_device **dev, char *err, size_t errlen);

#endif
