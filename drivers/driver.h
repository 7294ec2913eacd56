/* SPDX-License-Identifier: MIT */
/*
 * drivers/driver.h - a driver by its name: what it takes, and how its device is made.
 *
 * Each driver has one struct zd_driver, and drivers/registry/registry.c the table of them.  All
 * that is said of drivers is made from the table: how `zonedev run --device` and `zonedev serve`
 * read their argument, and what they answer a wrong one (drivers/registry/spec.h); their --help;
 * `zonedev info --devices`; and the lists in the man pages (scripts/man-devices, which the test
 * info_devices runs).
 *
 * To add a driver: define its struct zd_driver in a folder of its own, declare that below, and
 * add it to the table.  What the driver does once its device is there is struct zd_device_ops
 * (zonedev/device.h).
 */
#ifndef ZD_DRIVERS_DRIVER_H
#define ZD_DRIVERS_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct zd_device;

#define ZD_DRIVER_MIN_BYTES	(UINT64_C(2) << 20)	/* a smaller device isn't worth its threads */

enum zd_driver_key_type {
	ZD_KEY_PATH = 1,	/* stands first and without its name: file:/dev/sdb,... */
	ZD_KEY_SIZE = 2,	/* bytes, in zd_parse_size()'s form */
	ZD_KEY_SWITCH = 3,	/* on or off */
};

/*
 * struct zd_driver_key - a KEY=VALUE that the driver takes.
 *
 * @min, @multiple_of: what a size must be; 0: nothing is asked.
 * @without: what holds where the key isn't given, in words.  NULL: it must be given.
 * @help: what the value is, in words: a sentence that begins small, without its stop.
 */
struct zd_driver_key {
	const char *name;
	enum zd_driver_key_type type;
	uint64_t min;
	uint64_t multiple_of;
	const char *without;
	const char *help;
};

/* What was given for a key: a size in @number, 0 or 1 of a switch; a path in @text.  A key that
 * was not given is zero. */
struct zd_driver_value {
	bool given;
	uint64_t number;
	const char *text;
};

#define ZD_DRIVER_VERSION	1
#define ZD_DRIVER_MAX_KEYS	16

/* In zd_driver.commands: which ones the driver is for. */
#define ZD_DRIVER_RUN		(1u << 0)	/* zonedev run --device: a device */
#define ZD_DRIVER_SERVE		(1u << 1)	/* zonedev serve: a region */

/*
 * struct zd_driver - a driver's name, what it takes, and how its device is made.
 *
 * @size: sizeof(struct zd_driver) as the driver was compiled; the struct only grows, at the end.
 *	@version: ZD_DRIVER_VERSION.
 * @commands: ZD_DRIVER_RUN or ZD_DRIVER_SERVE.
 * @name: what stands before the colon.  @summary: what the device is, as @help of a key.
 * @example: a complete argument, for messages.
 * @keys: at most ZD_DRIVER_MAX_KEYS, and one without a name behind them.  A path is the first.
 * @create: make a device, which zd_device_unregister() ends.  @values: one for each of @keys, in
 *	their order, checked.  Returns 0; or -errno and in @err (may be NULL, with @errlen 0) one
 *	line that says what to do.  May block.  NULL: the driver is for a region, which the
 *	command opens.
 *
 * The struct needs public headers only, so that a shared object can export one.
 */
struct zd_driver {
	size_t size;
	uint32_t version;
	uint32_t commands;
	const char *name;
	const char *summary;
	const char *example;
	const struct zd_driver_key *keys;
	int (*create)(const struct zd_driver_value *values, struct zd_device **dev, char *err,
		      size_t errlen);
};

/* The drivers that zonedev is built with, each defined in its folder's driver.c. */
extern const struct zd_driver zd_ram_driver;
extern const struct zd_driver zd_file_driver;
extern const struct zd_driver zd_pmem_driver;

#endif
