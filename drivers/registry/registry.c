/* SPDX-License-Identifier: MIT */
#include "drivers/registry/registry.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const struct zd_driver *const drivers[] = {
	&zd_ram_driver,	       &zd_file_driver, &zd_lz4_driver,	 &zd_pmem_device_driver,
	&zd_dax_device_driver, &zd_nbd_driver,	&zd_pmem_driver,
};
#define NR_DRIVERS	(sizeof(drivers) / sizeof(drivers[0]))

const struct zd_driver *zd_driver_at(unsigned int i)
{
	return i < NR_DRIVERS ? drivers[i] : NULL;
}

const struct zd_driver *zd_driver_named(const char *name, size_t len, uint32_t command)
{
	for (size_t i = 0; i < NR_DRIVERS; i++)
		if (drivers[i]->commands & command && strlen(drivers[i]->name) == len &&
		    !memcmp(drivers[i]->name, name, len))
			return drivers[i];
	return NULL;
}

const struct zd_driver *zd_driver_of_scheme(const char *scheme, size_t len)
{
	for (size_t i = 0; i < NR_DRIVERS; i++)
		for (const char *const *s = drivers[i]->schemes; s && *s; s++)
			if (strlen(*s) == len && !memcmp(*s, scheme, len))
				return drivers[i];
	return NULL;
}

bool zd_driver_first(const struct zd_driver *driver)
{
	const struct zd_driver_key *key = &driver->keys[0];

	return key->name && (key->type == ZD_KEY_PATH || key->type == ZD_KEY_TEXT);
}

static const struct {
	const char *name, *value;
} types[] = {
	[ZD_KEY_PATH] = { "path", "PATH" },
	[ZD_KEY_SIZE] = { "size", "SIZE" },
	[ZD_KEY_SWITCH] = { "switch", "on" },
	[ZD_KEY_TEXT] = { "text", "TEXT" },
	[ZD_KEY_NUMBER] = { "number", "N" },
	[ZD_KEY_TIME] = { "time", "TIME" },
	[ZD_KEY_SIZE_OR_PERCENT] = { "size or percent", "SIZE|PERCENT" },
	[ZD_KEY_CHOICE] = { "choice", "" },
};

const char *zd_driver_key_type(const struct zd_driver_key *key)
{
	return types[key->type].name;
}

const char *zd_driver_key_usage(const struct zd_driver *driver, const struct zd_driver_key *key,
				char *buf, size_t len)
{
	bool first = key == driver->keys && zd_driver_first(driver);
	size_t n = 0;

	if (first && key->type == ZD_KEY_TEXT) {	/* nbd:URI */
		for (; key->name[n] && n + 1 < len; n++)
			buf[n] = (char)toupper(key->name[n]);
		buf[n] = '\0';
		return buf;
	}
	snprintf(buf, len, "%s%s%s", first ? "" : key->name, first ? "" : "=",
		 types[key->type].value);
	for (unsigned int i = 0; key->type == ZD_KEY_CHOICE && key->choices[i]; i++) {
		n = strlen(buf);
		snprintf(buf + n, len - n, "%s%s", i ? "|" : "", key->choices[i]);
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
	const char *before = ":";
	char text[128];

	snprintf(buf, len, "%s", driver->name);
	for (key = driver->keys; key->name; key++) {
		bool brackets = usage == ZD_USAGE_FULL && key->without;

		if (usage == ZD_USAGE_SHORT && key->without && key->type != ZD_KEY_SIZE &&
		    key->type != ZD_KEY_SIZE_OR_PERCENT)
			continue;
		append(buf, len, brackets ? "[" : "", before,
		       zd_driver_key_usage(driver, key, text, sizeof(text)), brackets ? "]" : "");
		before = ",";
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
