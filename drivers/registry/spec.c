/* SPDX-License-Identifier: MIT */
/*
 * drivers/registry/spec.c - devices and regions from the command line.
 *
 *	DRIVER:[PATH,]KEY=VALUE,...
 *	SCHEME://...,KEY=VALUE,...
 *	plugin:FILE,[PATH,]KEY=VALUE,...
 *
 * A comma in a value is written twice.  What a driver takes stands in its struct zd_driver.  Every
 * refusal is one line that says what to write instead; the caller puts the program's name in
 * front.
 */
#include "drivers/registry/spec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "drivers/explain.h"
#include "drivers/registry/plugin.h"
#include "drivers/registry/registry.h"
#include "drivers/registry/value.h"
#include "zonedev/device.h"
#include "zonedev/spec.h"

struct parser {
	struct zd_spec *spec;
	size_t used;			/* of spec->text */
	const char *noun;		/* what the command opens, for messages */
	char *err;
	size_t errlen;
};

#define fail(p, rc, ...)	zd_explain((p)->err, (p)->errlen, rc, __VA_ARGS__)

/* The next field of @*text, without its comma, in the room of the spec for texts, where it is
 * @*field; ",," stands for a comma.  Returns its length or -ENAMETOOLONG; @*text moves past the
 * comma, or is NULL after the last field. */
static int next_field(struct parser *p, const char **text, char **field)
{
	const char *from = *text;
	char *out = p->spec->text + p->used;
	size_t left = sizeof(p->spec->text) - p->used, n = 0;

	if (left > PATH_MAX)
		left = PATH_MAX;

	while (*from && (*from != ',' || from[1] == ',')) {
		if (n + 1 >= left)
			return -ENAMETOOLONG;
		from += *from == ',';
		out[n++] = *from++;
	}
	if (!left)
		return -ENAMETOOLONG;
	out[n] = '\0';
	p->used += n + 1;
	*field = out;
	*text = *from ? from + 1 : NULL;
	return (int)n;
}

static int set_value(struct parser *p, const struct zd_driver_key *key, const char *text)
{
	struct zd_driver_value *value = &p->spec->values[key - p->spec->driver->keys];

	if (value->given)
		return fail(p, -EINVAL, "%s is given twice: leave one out", key->name);
	return zd_value_parse(key, text, value, p->err, p->errlen);
}

/* "size=SIZE or force=on": the driver's keys but for the one that stands first. */
static const char *list_keys(const struct zd_driver *driver, const char *between, char *buf,
			     size_t len)
{
	const struct zd_driver_key *key;
	char text[64];
	size_t n = 0;

	*buf = '\0';
	for (key = driver->keys + zd_driver_first(driver); key->name && n < len; key++)
		n += snprintf(buf + n, len - n, "%s%s", n ? between : "",
			      zd_driver_key_usage(driver, key, text, sizeof(text)));
	return buf;
}

static const struct zd_driver_key *key_named(const struct zd_driver *driver, const char *name)
{
	const struct zd_driver_key *key;

	for (key = driver->keys + zd_driver_first(driver); key->name; key++)
		if (!strcmp(key->name, name))
			return key;
	return NULL;
}

static int fail_unknown(struct parser *p, const char *name, const char *value)
{
	const struct zd_driver *driver = p->spec->driver;
	bool first = zd_driver_first(driver);
	char list[512];

	list_keys(driver, " or ", list, sizeof(list));
	return fail(p, -EINVAL, "%s %s: unknown option '%s%s%s': %s%s%s%s%s", driver->name, p->noun,
		    name, value ? "=" : "", value ? value : "", *list ? "use " : "it has none",
		    list, first ? " (a comma in a " : "",
		    first ? zd_driver_key_type(&driver->keys[0]) : "",
		    first ? " is written ,,)" : "");
}

static int parse_options(struct parser *p, const char *text)
{
	const struct zd_driver *driver = p->spec->driver;
	const struct zd_driver_key *key;
	char list[512], *field, *value;
	int rc = 0;

	while (text && !rc) {
		rc = next_field(p, &text, &field);
		if (rc < 0)
			return fail(p, -EINVAL, "an option of the %s is too long: use %s", p->noun,
				    list_keys(driver, " and ", list, sizeof(list)));
		value = strchr(field, '=');
		if (value)
			*value++ = '\0';
		key = value ? key_named(driver, field) : NULL;
		rc = key ? set_value(p, key, value) : fail_unknown(p, field, value);
	}
	return rc;
}

static int fail_missing(struct parser *p, const struct zd_driver_key *key)
{
	const struct zd_driver *driver = p->spec->driver;

	return fail(p, -EINVAL, "%s %s: no %s: write %s", driver->name, p->noun, key->name,
		    driver->example);
}

/* The value that stands first, a path or a text. */
static int parse_first(struct parser *p, const char **text)
{
	const struct zd_driver *driver = p->spec->driver;
	char *first, *value;
	int len = next_field(p, text, &first);

	if (len < 0)
		return fail(p, len, "%s %s: the %s is too long: use a shorter one", driver->name,
			    p->noun, driver->keys[0].name);
	/* size=8G where the path should be: the path was forgotten */
	value = strchr(first, '=');
	if (value) {
		*value = '\0';
		if (key_named(driver, first))
			len = 0;
		*value = '=';
	}
	if (!len)
		return fail_missing(p, &driver->keys[0]);
	return set_value(p, &driver->keys[0], first);
}

static int parse_values(struct parser *p, const char *text)
{
	const struct zd_driver_key *key;
	int rc = 0;

	if (zd_driver_first(p->spec->driver))
		rc = parse_first(p, &text);
	else if (!*text)
		text = NULL;
	if (!rc)
		rc = parse_options(p, text);
	for (key = p->spec->driver->keys; !rc && key->name; key++)
		if (!key->without && !p->spec->values[key - p->spec->driver->keys].given)
			rc = fail_missing(p, key);
	return rc;
}

/* @*values: of the spec, behind "plugin:"; then those of the plugin's driver. */
static int load_plugin(struct parser *p, const char **values)
{
	char *name;
	int len = next_field(p, values, &name);

	if (len < 0)
		return fail(p, len, "plugin: the path is too long: use a shorter one");
	if (!len)
		return fail(p, -EINVAL,
			    "plugin: no file: write plugin:./FILE.so, or plugin:NAME of one in %s",
			    zd_plugin_dir());
	p->used = 0;	/* the driver's texts begin where they do for every driver */
	if (!*values)
		*values = "";
	return zd_plugin_load(name, &p->spec->driver, p->err, p->errlen);
}

int zd_spec_parse(const char *text, uint32_t command, struct zd_spec *spec, char *err,
		  size_t errlen)
{
	struct parser p = { .spec = spec,
			    .err = err,
			    .errlen = errlen,
			    .noun = command == ZD_DRIVER_RUN ? "device" : "region" };
	size_t len = strcspn(text, ":");
	const char *values = text[len] ? text + len + 1 : "";
	char usage[1024];
	int rc;

	memset(spec, 0, sizeof(*spec));
	if (command == ZD_DRIVER_RUN && !strncmp(text, "plugin", len) && len == 6) {
		rc = load_plugin(&p, &values);
		return rc ? rc : parse_values(&p, values);
	}
	if (!strncmp(values, "//", 2)) {
		spec->driver = zd_driver_of_scheme(text, len);
		if (spec->driver)
			values = text;
	}
	if (!spec->driver)
		spec->driver = zd_driver_named(text, len, command);
	if (!spec->driver || !(spec->driver->commands & command)) {
		zd_drivers_usage(command, ZD_USAGE_SHORT, " or ", usage, sizeof(usage));
		return fail(&p, -EINVAL, "'%.64s' is no %s: use %s", text, p.noun, usage);
	}
	return parse_values(&p, values);
}

/* A plugin's ->create may be wrong in ways that the built-in ones aren't. */
int zd_spec_create(const struct zd_spec *spec, struct zd_device **dev, char *err, size_t errlen)
{
	const struct zd_driver *driver = spec->driver;
	struct zd_device *made = NULL;
	int rc;

	zd_explain(err, errlen, 0, "%s", "");
	rc = driver->create(spec->values, &made, err, errlen);
	if (rc > 0 || (!rc && (!made || !made->pgmap.priv)))
		return zd_explain(
			err, errlen, -EINVAL,
			"%s: a mistake in its driver: it makes no device that is registered",
			driver->name);
	if (rc && err && errlen && !*err)
		return zd_explain(err, errlen, rc, "%s device: %s", driver->name,
				  strerrordesc_np(-rc));
	if (!rc)
		*dev = made;
	return rc;
}

int zd_device_open_spec(const char *text, struct zd_device **dev, char *err, size_t errlen)
{
	struct zd_spec spec;
	int rc = zd_spec_parse(text, ZD_DRIVER_RUN, &spec, err, errlen);

	return rc ? rc : zd_spec_create(&spec, dev, err, errlen);
}
