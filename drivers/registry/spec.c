/* SPDX-License-Identifier: MIT */
/*
 * drivers/registry/spec.c - devices and regions from the command line.
 *
 *	DRIVER:[PATH,]KEY=VALUE,...
 *
 * A comma in PATH is written twice.  What a driver takes stands in its struct zd_driver.  Every
 * refusal is one line that says what to write instead; the caller puts the program's name in
 * front.
 */
#include "drivers/registry/spec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "drivers/explain.h"
#include "drivers/registry/registry.h"
#include "zonedev/spec.h"

struct parser {
	struct zd_spec *spec;
	const char *noun;		/* what the command opens, for messages */
	char *err;
	size_t errlen;
};

#define fail(p, rc, ...)	zd_explain((p)->err, (p)->errlen, rc, __VA_ARGS__)

/* The next field of @*text, without its comma; ",," stands for one.  Returns
 * its length or -ENAMETOOLONG; @*text moves past the comma, or is NULL after
 * the last field. */
static int next_field(const char **text, char *out, size_t outlen)
{
	const char *p = *text;
	size_t n = 0;

	while (*p && (*p != ',' || p[1] == ',')) {
		if (n + 1 == outlen)
			return -ENAMETOOLONG;
		p += *p == ',';
		out[n++] = *p++;
	}
	out[n] = '\0';
	*text = *p ? p + 1 : NULL;
	return (int)n;
}

/* "2M", of a size that is a whole number of some unit. */
static const char *format_size(uint64_t bytes, char *buf, size_t len)
{
	static const char units[] = "\0KMGTPE";
	unsigned int unit = 0;

	while (bytes && !(bytes % 1024)) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, len, "%llu%.1s", (unsigned long long)bytes, units + unit);
	return buf;
}

static int set_size(struct parser *p, const struct zd_driver_key *key, const char *text,
		    uint64_t *bytes)
{
	int rc = zd_parse_size(text, bytes);
	char least[32];

	if (rc == -ERANGE)
		return fail(p, rc, "%s=%s is too large: give less than 16E", key->name, text);
	if (rc)
		return fail(
			p, rc,
			"%s=%s is not a size: write a number and K, M, G or T (of 1024), as in %s=8G",
			key->name, text, key->name);
	if (key->multiple_of && (!*bytes || *bytes % key->multiple_of))
		return fail(p, -EINVAL, "%s=%s is not a multiple of %llu: give one, as in %s=8G",
			    key->name, text, (unsigned long long)key->multiple_of, key->name);
	if (*bytes < key->min)
		return fail(p, -EINVAL, "%s=%s is too small: give %s or more", key->name, text,
			    format_size(key->min, least, sizeof(least)));
	return 0;
}

static int set_switch(struct parser *p, const struct zd_driver_key *key, const char *text,
		      uint64_t *on)
{
	if (strcmp(text, "on") && strcmp(text, "off"))
		return fail(p, -EINVAL, "%s=%s: write %s=on or %s=off", key->name, text, key->name,
			    key->name);
	*on = !strcmp(text, "on");
	return 0;
}

static int set_value(struct parser *p, const struct zd_driver_key *key, const char *text)
{
	struct zd_driver_value *value = &p->spec->values[key - p->spec->driver->keys];

	if (value->given)
		return fail(p, -EINVAL, "%s is given twice: leave one out", key->name);
	value->given = true;
	return key->type == ZD_KEY_SIZE ? set_size(p, key, text, &value->number) :
					  set_switch(p, key, text, &value->number);
}

/* "size=SIZE or force=on": the driver's keys but for its path. */
static const char *list_keys(const struct zd_driver *driver, const char *between, char *buf,
			     size_t len)
{
	const struct zd_driver_key *key;
	char text[64];
	size_t n = 0;

	*buf = '\0';
	for (key = driver->keys; key->name && n < len; key++)
		if (key->type != ZD_KEY_PATH)
			n += snprintf(buf + n, len - n, "%s%s", n ? between : "",
				      zd_driver_key_usage(key, text, sizeof(text)));
	return buf;
}

static const struct zd_driver_key *key_named(const struct zd_driver *driver, const char *name)
{
	const struct zd_driver_key *key;

	for (key = driver->keys; key->name; key++)
		if (key->type != ZD_KEY_PATH && !strcmp(key->name, name))
			return key;
	return NULL;
}

static bool takes_path(const struct zd_driver *driver)
{
	return driver->keys[0].type == ZD_KEY_PATH;
}

static int parse_options(struct parser *p, const char *text)
{
	const struct zd_driver *driver = p->spec->driver;
	const struct zd_driver_key *key;
	char field[256], list[256], *value;
	int rc = 0;

	while (text && !rc) {
		rc = next_field(&text, field, sizeof(field));
		if (rc < 0)
			return fail(p, -EINVAL, "an option of the %s is too long: use %s", p->noun,
				    list_keys(driver, " and ", list, sizeof(list)));
		value = strchr(field, '=');
		if (value)
			*value++ = '\0';
		key = value ? key_named(driver, field) : NULL;
		if (key)
			rc = set_value(p, key, value);
		else
			rc = fail(p, -EINVAL, "%s %s: unknown option '%s%s%s': use %s%s",
				  driver->name, p->noun, field, value ? "=" : "",
				  value ? value : "", list_keys(driver, " or ", list, sizeof(list)),
				  takes_path(driver) ? " (a comma in a path is written ,,)" : "");
	}
	return rc;
}

static int fail_missing(struct parser *p, const struct zd_driver_key *key)
{
	const struct zd_driver *driver = p->spec->driver;

	return fail(p, -EINVAL, "%s %s: no %s: write %s", driver->name, p->noun, key->name,
		    driver->example);
}

static int parse_path(struct parser *p, const char **text)
{
	const struct zd_driver *driver = p->spec->driver;
	char *path = p->spec->path, *value;
	int len = next_field(text, path, sizeof(p->spec->path));

	if (len < 0)
		return fail(p, len, "%s %s: the path is too long: use a shorter one", driver->name,
			    p->noun);
	/* size=8G where the path should be: the path was forgotten */
	value = strchr(path, '=');
	if (value) {
		*value = '\0';
		if (key_named(driver, path))
			len = 0;
		*value = '=';
	}
	if (!len)
		return fail_missing(p, &driver->keys[0]);
	p->spec->values[0] = (struct zd_driver_value){ .given = true, .text = path };
	return 0;
}

static int parse_values(struct parser *p, const char *text)
{
	const struct zd_driver_key *key;
	int rc = 0;

	if (takes_path(p->spec->driver))
		rc = parse_path(p, &text);
	else if (!*text)
		text = NULL;
	if (!rc)
		rc = parse_options(p, text);
	for (key = p->spec->driver->keys; !rc && key->name; key++)
		if (!key->without && !p->spec->values[key - p->spec->driver->keys].given)
			rc = fail_missing(p, key);
	return rc;
}

int zd_spec_parse(const char *text, uint32_t command, struct zd_spec *spec, char *err,
		  size_t errlen)
{
	struct parser p = { .spec = spec,
			    .err = err,
			    .errlen = errlen,
			    .noun = command == ZD_DRIVER_RUN ? "device" : "region" };
	size_t len = strcspn(text, ":");
	char usage[256];

	memset(spec, 0, sizeof(*spec));
	spec->driver = zd_driver_named(text, len);
	if (!spec->driver || !(spec->driver->commands & command)) {
		zd_drivers_usage(command, ZD_USAGE_SHORT, " or ", usage, sizeof(usage));
		return fail(&p, -EINVAL, "'%.64s' is no %s: use %s", text, p.noun, usage);
	}
	return parse_values(&p, text[len] ? text + len + 1 : "");
}

int zd_device_open_spec(const char *text, struct zd_device **dev, char *err, size_t errlen)
{
	struct zd_spec spec;
	int rc = zd_spec_parse(text, ZD_DRIVER_RUN, &spec, err, errlen);

	return rc ? rc : spec.driver->create(spec.values, dev, err, errlen);
}
