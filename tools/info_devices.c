/* SPDX-License-Identifier: MIT */
/* zonedev info --devices: the table of the drivers, and the plugins in the directory for them. */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/registry/plugin.h"
#include "drivers/registry/registry.h"
#include "drivers/registry/value.h"
#include "tools/info_devices.h"

static const struct {
	uint32_t bit;
	const char *name, *usage;
} commands[] = {
	{ ZD_DRIVER_RUN, "run", "zonedev run --device" },
	{ ZD_DRIVER_SERVE, "serve", "zonedev serve" },
};
#define NR_COMMANDS	(sizeof(commands) / sizeof(commands[0]))

static void print_key(const struct zd_driver *driver, const struct zd_driver_key *key)
{
	char usage[128], number[32];

	printf("  %-10s  %s", zd_driver_key_usage(driver, key, usage, sizeof(usage)), key->help);
	if (key->min)
		printf("; %s%s", zd_value_format(key, key->min, number, sizeof(number)),
		       key->max ? "" : " or more");
	if (key->max)
		printf("%s%s", key->min ? " to " : "; at most ",
		       zd_value_format(key, key->max, number, sizeof(number)));
	if (key->multiple_of)
		printf("; a multiple of %llu", (unsigned long long)key->multiple_of);
	printf("\n");
	if (key->without)
		printf("  %-10s  (without: %s)\n", "", key->without);
}

/* How a driver is written for a command; @plugin: where it comes from, or NULL. */
static void usage_of(const struct zd_driver *driver, const char *plugin, char *buf, size_t len)
{
	char usage[512], *keys, *colon;

	zd_driver_usage(driver, ZD_USAGE_FULL, usage, sizeof(usage));
	keys = usage + (plugin ? strlen(driver->name) : 0);
	colon = strchr(keys, ':');
	if (plugin && colon)
		*colon = ',';
	snprintf(buf, len, "%s%s%s", plugin ? "plugin:" : "", plugin ? plugin : "", keys);
}

static void print_driver(const struct zd_driver *driver, const char *plugin)
{
	char usage[PATH_MAX + 512];

	printf("%s: %s\n", driver->name, driver->summary);
	usage_of(driver, plugin, usage, sizeof(usage));
	for (size_t c = 0; c < NR_COMMANDS; c++)
		if (driver->commands & commands[c].bit)
			printf("  %s %s\n", commands[c].usage, usage);
	for (const char *const *s = driver->schemes; !plugin && s && *s; s++)
		printf("  %s %s://...\n", commands[0].usage, *s);
	for (const struct zd_driver_key *key = driver->keys; key->name; key++)
		print_key(driver, key);
}

/* A number of which 0 means that there is none. */
static json_t *json_limit(uint64_t n)
{
	return n ? json_integer((json_int_t)n) : json_null();
}

/* The strings of @list, which NULL ends; of NULL none. */
static json_t *json_strings(const char *const *list)
{
	json_t *array = json_array();

	for (; list && *list; list++)
		json_array_append_new(array, json_string(*list));
	return array;
}

static json_t *json_key(const struct zd_driver *driver, const struct zd_driver_key *key)
{
	char usage[128];

	return json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:s?, s:s}", "name", key->name,
			 "type", zd_driver_key_type(key), "usage",
			 zd_driver_key_usage(driver, key, usage, sizeof(usage)), "required",
			 !key->without, "min", json_limit(key->min), "max", json_limit(key->max),
			 "multiple_of", json_limit(key->multiple_of), "choices",
			 json_strings(key->choices), "without", key->without, "help", key->help);
}

static json_t *json_driver(const struct zd_driver *driver, const char *plugin)
{
	json_t *for_commands = json_array(), *keys = json_array();
	char usage[PATH_MAX + 512];

	for (size_t c = 0; c < NR_COMMANDS; c++)
		if (driver->commands & commands[c].bit)
			json_array_append_new(for_commands, json_string(commands[c].name));
	for (const struct zd_driver_key *key = driver->keys; key->name; key++)
		json_array_append_new(keys, json_key(driver, key));
	usage_of(driver, plugin, usage, sizeof(usage));
	return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:o, s:o, s:o}", "name", driver->name,
			 "summary", driver->summary, "usage", usage, "example", driver->example,
			 "plugin", plugin, "commands", for_commands, "schemes",
			 json_strings(plugin ? NULL : driver->schemes), "keys", keys);
}

/* Of the list @name in @root. */
static void add_driver(json_t *root, const char *name, const struct zd_driver *driver,
		       const char *plugin)
{
	if (root)
		json_array_append_new(json_object_get(root, name), json_driver(driver, plugin));
	else
		print_driver(driver, plugin);
}

static void add_plugin(json_t *root, const char *file)
{
	const struct zd_driver *driver;
	char err[512];
	int rc = zd_plugin_load(file, &driver, err, sizeof(err));

	if (!root)
		printf("\n");
	if (!rc)
		add_driver(root, "plugins", driver, file);
	else if (root)
		json_array_append_new(json_object_get(root, "plugins"),
				      json_pack("{s:s, s:s}", "plugin", file, "error", err));
	else
		printf("%s\n", err);
}

static int is_plugin(const struct dirent *entry)
{
	const char *suffix = strrchr(entry->d_name, '.');

	return suffix && !strcmp(suffix, ".so");
}

static void add_all(json_t *root)
{
	struct dirent **entries = NULL;
	const struct zd_driver *driver;
	int nr;

	for (unsigned int i = 0; (driver = zd_driver_at(i)); i++) {
		if (!root && i)
			printf("\n");
		add_driver(root, "devices", driver, NULL);
	}
	nr = scandir(zd_plugin_dir(), &entries, is_plugin, alphasort);
	for (int i = 0; i < nr; i++) {
		add_plugin(root, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
}

/* Those that are called so: a name may be a device's and a region's.  How many there are. */
static unsigned int add_named(json_t *root, const char *name)
{
	const struct zd_driver *driver;
	unsigned int nr = 0;

	for (unsigned int i = 0; (driver = zd_driver_at(i)); i++) {
		if (strcmp(driver->name, name))
			continue;
		if (!root && nr)
			printf("\n");
		add_driver(root, "devices", driver, NULL);
		nr++;
	}
	return nr;
}

static int add_one(json_t *root, const char *name, char *err, size_t errlen)
{
	const struct zd_driver *driver;
	int rc;

	if (strncmp(name, "plugin:", 7)) {
		if (add_named(root, name))
			return 0;
		snprintf(err, errlen, "'%.64s' is no driver: zonedev info --devices lists them",
			 name);
		return -ENOENT;
	}
	rc = zd_plugin_load(name + 7, &driver, err, errlen);
	if (!rc)
		add_driver(root, "devices", driver, name + 7);
	return rc;
}

int info_devices(const char *name, bool json, char *err, size_t errlen)
{
	json_t *root = json ? json_pack("{s:[], s:[]}", "devices", "plugins") : NULL;
	int rc = 0;

	if (json && !root) {
		snprintf(err, errlen, "out of memory");
		return -ENOMEM;
	}
	if (name)
		rc = add_one(root, name, err, errlen);
	else
		add_all(root);
	if (!rc && json) {
		json_dumpf(root, stdout, JSON_INDENT(2));
		printf("\n");
	}
	json_decref(root);
	return rc;
}
