/* SPDX-License-Identifier: MIT */
/*
 * drivers/registry/registry.h - which drivers there are, and how each is written.
 *
 * Constant data: any thread, any context.
 */
#ifndef ZD_DRIVERS_REGISTRY_REGISTRY_H
#define ZD_DRIVERS_REGISTRY_REGISTRY_H

#include <stddef.h>

#include "drivers/driver.h"

/* zd_driver_at - the @i-th driver, from 0; NULL: there are no more. */
const struct zd_driver *zd_driver_at(unsigned int i);

/* zd_driver_named - the driver for @command whose name is the first @len bytes of @name; NULL:
 * there is none. */
const struct zd_driver *zd_driver_named(const char *name, size_t len, uint32_t command);

/* zd_driver_of_scheme - the driver that has the URI scheme which is the first @len bytes of
 * @scheme; NULL: there is none. */
const struct zd_driver *zd_driver_of_scheme(const char *scheme, size_t len);

/* zd_driver_first - true: the driver's first key stands first, without its name. */
bool zd_driver_first(const struct zd_driver *driver);

enum zd_usage {
	ZD_USAGE_FULL,		/* file:PATH[,size=SIZE][,force=on] */
	ZD_USAGE_SHORT,		/* file:PATH,size=SIZE: what stands first, sizes, and what must be */
};

/* zd_driver_usage - how the driver is written, cut off where @buf ends. */
void zd_driver_usage(const struct zd_driver *driver, enum zd_usage usage, char *buf, size_t len);

/* zd_drivers_usage - how all drivers for @command are written, with @between between them. */
void zd_drivers_usage(uint32_t command, enum zd_usage usage, const char *between, char *buf,
		      size_t len);

/* zd_driver_key_usage - how a key of @driver is written: "size=SIZE".  Returns @buf. */
const char *zd_driver_key_usage(const struct zd_driver *driver, const struct zd_driver_key *key,
				char *buf, size_t len);

/* zd_driver_key_type - the type in a word or three: "size", "size or percent". */
const char *zd_driver_key_type(const struct zd_driver_key *key);

#endif
