/* SPDX-License-Identifier: MIT */
#include "drivers/registry/registry.h"

#include <stdio.h>
#include <string.h>

static const struct zd_driver *const drivers[] = {
	&zd_ram_driver,
	&zd_file_driver,
	&zd_pmem_driver,
};
#define NR_DRIVERS	(sizeof(drivers) / sizeof(drivers[0]))

const struct zd_driver *zd_driver_at(unsigned int i)
{
	return i < NR_DRIVERS ? drivers[i] : NULL;
}

const struct zd_driver *zd_driver_named(const char *name, size_t len)
{
	for (size_t i = 0; i < NR_DRIVERS; i++)
		if (strlen(drivers[i]->name) == len && !memcmp(drivers[i]->name, name, len))
			return drivers[i];
	return NULL;
}

const char *zd_driver_key_usage(const struct zd_driver_key *key, char *buf, size_t len)
{
	switch (key->type) {
	case ZD_KEY_PATH:
		snprintf(buf, len, "PATH");
		break;
	case ZD_KEY_SIZE:
		snprintf(buf, len, "%s=SIZE", key->name);
		break;
	case ZD_KEY_SWITCH:
		snprintf(buf, len, "%s=on", key->name);
		break;
	}
	return buf;
}

/* Add the four texts behind what @buf holds. */
static void append(char *buf, size_t len, const char *a, const char *b, const char *c,
		   const char *d)
{
	size_t n = strlen(buf);

	snprintf(buf + n, len - n, "%s%s%s%s", a, b, c, d);
}

void zd_driver_usage(const struct zd_driver *driver, enum zd_usage usage, char *buf, size_t len)
{
	const struct zd_driver_key *key;
	const char *comma = "";
	char text[64];

	snprintf(buf, len, "%s:", driver->name);
	for (key = driver->keys; key->name; key++, comma = ",") {
		bool brackets = usage == ZD_USAGE_FULL && key->without;

		if (usage == ZD_USAGE_SHORT && key->type == ZD_KEY_SWITCH)
			continue;
		append(buf, len, brackets ? "[" : "", comma,
		       zd_driver_key_usage(key, text, sizeof(text)), brackets ? "]" : "");
	}
}

void zd_drivers_usage(uint32_t command, enum zd_usage usage, const char *between, char *buf,
		      size_t len)
{
	char text[256];

	*buf = '\0';
	for (size_t i = 0; i < NR_DRIVERS; i++) {
		if (!(drivers[i]->commands & command))
			continue;
		zd_driver_usage(drivers[i], usage, text, sizeof(text));
		append(buf, len, *buf ? between : "", text, "", "");
	}
}
