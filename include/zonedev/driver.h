/* SPDX-License-Identifier: MIT */
/*
 * zonedev/driver.h - a driver by its name: what it takes, and how its device is made.
 *
 * What a device does once it is there is struct zd_device_ops (zonedev/device.h).  A struct
 * zd_driver gives it a name on the command line: `zonedev run --device NAME:KEY=VALUE,...`, and
 * zd_device_open_spec() in a program.  From the struct are made how the argument is read, what a
 * wrong one is answered, --help, `zonedev info --devices` and the lists in the man pages.
 *
 * A shared object of one's own becomes such a driver, a plugin, with
 *
 *	ZD_PLUGIN(my_driver);
 *
 * and is used as `--device plugin:./my.so,KEY=VALUE,...`; zonedev-plugin(7) has the whole of it.
 * drivers/example/example.c is one.
 */
#ifndef ZONEDEV_DRIVER_H
#define ZONEDEV_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct zd_device;

#define ZD_DRIVER_MIN_BYTES	(UINT64_C(2) << 20)	/* a smaller device isn't worth its threads */

/* What a key's value is, and what of it the driver gets in struct zd_driver_value. */
enum zd_driver_key_type {
	ZD_KEY_PATH = 1,		/* a file: @text */
	ZD_KEY_SIZE = 2,		/* bytes, in zd_parse_size()'s form: @number */
	ZD_KEY_SWITCH = 3,		/* on or off: @number, 1 or 0 */
	ZD_KEY_TEXT = 4,		/* anything, a URI say: @text */
	ZD_KEY_NUMBER = 5,		/* a whole number: @number */
	ZD_KEY_TIME = 6,		/* 500ms, 30s, 2m, 1h: @number, of milliseconds */
	ZD_KEY_SIZE_OR_PERCENT = 7,	/* a size, or 1% to 100%: @number, and @percent if it is that */
	ZD_KEY_CHOICE = 8,		/* one of @choices: @text, and @number, its index there */
};

/*
 * struct zd_driver_key - a KEY=VALUE that the driver takes.
 *
 * A driver's first key, if it is a ZD_KEY_PATH or ZD_KEY_TEXT, stands first and without its name
 * (file:/dev/sdb,size=8G), and must be given.  Any text ends at the first comma; a comma in it is
 * written twice.
 *
 * @min, @max: the least and the largest value, both included: a size in bytes, a time in
 *	milliseconds; of sizes and percents those that are sizes.  0: nothing is asked.
 * @multiple_of: what a size must be a multiple of.  0: nothing is asked.
 * @without: what holds where the key isn't given, in words.  NULL: it must be given.  A switch
 *	has one.
 * @help: what the value is, in words: a sentence that begins small, without its stop.
 * @choices: the words that a ZD_KEY_CHOICE may be, and NULL behind them.
 *
 * The struct's size is fixed for ever: a driver has an array of it.
 */
struct zd_driver_key {
	const char *name;
	enum zd_driver_key_type type;
	uint64_t min;
	uint64_t max;
	uint64_t multiple_of;
	const char *without;
	const char *help;
	const char *const *choices;
	uint64_t reserved_[2];
};

/*
 * struct zd_driver_value - what was given for a key; one that wasn't given is zero.
 *
 * @text: until ->create returns.  The struct's size is fixed for ever.
 */
struct zd_driver_value {
	bool given;
	bool percent;
	uint64_t number;
	const char *text;
	uint64_t reserved_;
};

/* The version of all that stands in this header and in zonedev/device.h.  A plugin works with a
 * zonedev of the same, as its package says: `pkg-config --variable=plugin_version zonedev`. */
#define ZD_DRIVER_VERSION	1
#define ZD_DRIVER_MAX_KEYS	16

/* In zd_driver.commands: which ones the driver is for. */
#define ZD_DRIVER_RUN		(1u << 0)	/* zonedev run --device: a device */
#define ZD_DRIVER_SERVE		(1u << 1)	/* zonedev serve: a region; not for plugins */

/*
 * struct zd_driver - a driver's name, what it takes, and how its device is made.
 *
 * @size: sizeof(struct zd_driver) as the driver was compiled; the struct only grows, at the end.
 *	@version: ZD_DRIVER_VERSION.
 * @commands: ZD_DRIVER_RUN or ZD_DRIVER_SERVE.
 * @name: what stands before the colon: small letters, digits and -.  One driver for a command
 *	has it.
 * @summary: what the device is, as @help of a key.
 * @example: a complete argument, for messages.
 * @keys: at most ZD_DRIVER_MAX_KEYS, and one without a name behind them.
 * @create: make a device, which zd_device_unregister() ends.  @values: one for each of @keys, in
 *	their order, checked.  Returns 0 and the device, registered; or -errno and in @err (may
 *	be NULL, with @errlen 0) one line that says what to do.  May block and call malloc.  NULL:
 *	the driver is for a region, which the command opens.
 * @schemes: URI schemes, and NULL behind them, which are this driver's by themselves:
 *	SCHEME://... is the value of its first key, a ZD_KEY_TEXT, and stands for NAME:SCHEME://...
 *	A plugin's are not looked at.  NULL: none.
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
	const char *const *schemes;
};

/*
 * struct zd_plugin - what a plugin exports as its symbol zd_plugin: its driver, and against which
 * interface it was compiled.  ZD_PLUGIN() makes it.
 *
 * @magic and @version stand here in every version.  The others are those of ZD_DRIVER_VERSION.
 */
struct zd_plugin {
	uint64_t magic;
	uint32_t version;
	uint32_t key_bytes;
	uint32_t value_bytes;
	uint32_t reserved_;
	const struct zd_driver *driver;
};

#define ZD_PLUGIN_MAGIC	UINT64_C(0x6e6967756c70647a)	/* "zdplugin", read as bytes */

/* ZD_PLUGIN - this shared object is the plugin of @driver, a struct zd_driver.  Once, in one of its
 * source files, outside of functions. */
#define ZD_PLUGIN(driver)                                                                   \
	ZD_PLUGIN_EXTERN_ const struct zd_plugin zd_plugin                                  \
		__attribute__((visibility("default")));                                     \
	const struct zd_plugin zd_plugin = { ZD_PLUGIN_MAGIC,                               \
					     ZD_DRIVER_VERSION,                             \
					     (uint32_t)sizeof(struct zd_driver_key),        \
					     (uint32_t)sizeof(struct zd_driver_value),      \
					     0,                                             \
					     &(driver) }
#ifdef __cplusplus
#define ZD_PLUGIN_EXTERN_ extern "C"
#else
#define ZD_PLUGIN_EXTERN_ extern
#endif

#ifdef __cplusplus
}
#endif
#endif
