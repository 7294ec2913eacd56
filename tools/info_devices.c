/* SPDX-License-Identifier: MIT */
/* zonedev info --devices: the table of the drivers. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>

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

static void print_driver(const struct zd_driver *driver)
{
	char usage[512];

	printf("%s: %s\n", driver->name, driver->summary);
	zd_driver_usage(driver, ZD_USAGE_FULL, usage, sizeof(usage));
	for (size_t c = 0; c < NR_COMMANDS; c++)
		if (driver->commands & commands[c].bit)
			printf("  %s %s\n", commands[c].usage, usage);
	for (const char *const *s = driver->schemes; s && *s; s++)
		printf("  %s %s://...\n", commands[0].usage, *s);
	for (const struct zd_driver_key *key = driver->keys; key->name; key++)
		print_key(driver, key);
}

void info_devices_text(void)
{
	const struct zd_driver *driver;

	for (unsigned int i = 0; (driver = zd_driver_at(i)); i++) {
		printf("%s", i ? "\n" : "");
		print_driver(driver);
	}
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

static json_t *json_driver(const struct zd_driver *driver)
{
	json_t *for_commands = json_array(), *keys = json_array();
	char usage[512];

	for (size_t c = 0; c < NR_COMMANDS; c++)
		if (driver->commands & commands[c].bit)
			json_array_append_new(for_commands, json_string(commands[c].name));
	for (const struct zd_driver_key *key = driver->keys; key->name; key++)
		json_array_append_new(keys, json_key(driver, key));
	zd_driver_usage(driver, ZD_USAGE_FULL, usage, sizeof(usage));
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "name", driver->name, "summary",
			 driver->summary, "usage", usage, "example", driver->example, "commands",
			 for_commands, "schemes", json_strings(driver->schemes), "keys", keys);
}

int info_devices_json(void)
{
	json_t *root, *list = json_array();
	const struct zd_driver *driver;

	for (unsigned int i = 0; (driver = zd_driver_at(i)); i++)
		json_array_append_new(list, json_driver(driver));
	root = json_pack("{s:o}", "devices", list);
	if (!root)
		return -ENOMEM;
	json_dumpf(root, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(root);
	return 0;
}
