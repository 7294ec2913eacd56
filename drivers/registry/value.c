/* SPDX-License-Identifier: MIT */
/*
 * Values of keys.  What is refused is refused with one line that names the key and says what to
 * write instead.
 */
#include "drivers/registry/value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "drivers/explain.h"
#include "zonedev/spec.h"

struct target {
	const struct zd_driver_key *key;
	const char *text;
	char *err;
	size_t errlen;
};

#define fail(t, rc, ...)	zd_explain((t)->err, (t)->errlen, rc, __VA_ARGS__)

static const struct {
	const char *name;
	uint64_t ms;
} time_units[] = {
	{ "h", 3600000 },
	{ "m", 60000 },
	{ "s", 1000 },
	{ "ms", 1 },
};
#define NR_TIME_UNITS	(sizeof(time_units) / sizeof(time_units[0]))

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

static const char *format_time(uint64_t ms, char *buf, size_t len)
{
	unsigned int unit = 0;

	while (ms % time_units[unit].ms)
		unit++;
	snprintf(buf, len, "%llu%s", (unsigned long long)(ms / time_units[unit].ms),
		 time_units[unit].name);
	return buf;
}

const char *zd_value_format(const struct zd_driver_key *key, uint64_t number, char *buf, size_t len)
{
	switch (key->type) {
	case ZD_KEY_SIZE:
	case ZD_KEY_SIZE_OR_PERCENT:
		return format_size(number, buf, len);
	case ZD_KEY_TIME:
		return format_time(number, buf, len);
	default:
		snprintf(buf, len, "%llu", (unsigned long long)number);
		return buf;
	}
}

static int check_range(const struct target *t, uint64_t number)
{
	const struct zd_driver_key *key = t->key;
	char limit[32];

	if (number < key->min)
		return fail(t, -EINVAL, "%s=%s is too small: give %s or more", key->name, t->text,
			    zd_value_format(key, key->min, limit, sizeof(limit)));
	if (key->max && number > key->max)
		return fail(t, -EINVAL, "%s=%s is too large: give %s or less", key->name, t->text,
			    zd_value_format(key, key->max, limit, sizeof(limit)));
	return 0;
}

static int parse_size(const struct target *t, uint64_t *bytes)
{
	const struct zd_driver_key *key = t->key;
	bool percent = key->type == ZD_KEY_SIZE_OR_PERCENT;
	int rc = zd_parse_size(t->text, bytes);

	if (rc == -ERANGE)
		return fail(t, rc, "%s=%s is too large: give less than 16E", key->name, t->text);
	if (rc)
		return fail(
			t, rc,
			"%s=%s is not a size: write a number and K, M, G or T (of 1024), as in %s=8G%s%s%s",
			key->name, t->text, key->name, percent ? ", or a percentage, as in " : "",
			percent ? key->name : "", percent ? "=25%" : "");
	if (key->multiple_of && (!*bytes || *bytes % key->multiple_of))
		return fail(t, -EINVAL, "%s=%s is not a multiple of %llu: give one, as in %s=8G",
			    key->name, t->text, (unsigned long long)key->multiple_of, key->name);
	return check_range(t, *bytes);
}

/* The number that @text begins with; @end: what stands behind it.  0; -EINVAL: it begins with
 * none; -ERANGE. */
static int parse_number(const char *text, uint64_t *number, const char **end)
{
	const char *p = text;

	*number = 0;
	*end = text;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(*number, 10, number) ||
		    __builtin_add_overflow(*number, (uint64_t)(*p - '0'), number))
			return -ERANGE;
	*end = p;
	return p == text ? -EINVAL : 0;
}

static int parse_percent(const struct target *t, struct zd_driver_value *value)
{
	const char *end;

	if (parse_number(t->text, &value->number, &end) || strcmp(end, "%") || !value->number ||
	    value->number > 100)
		return fail(t, -EINVAL, "%s=%s is no percentage: give 1%% to 100%%", t->key->name,
			    t->text);
	value->percent = true;
	return 0;
}

static int parse_whole(const struct target *t, uint64_t *number)
{
	const struct zd_driver_key *key = t->key;
	char range[64] = "";
	const char *end;
	int rc = parse_number(t->text, number, &end);

	if (rc == -ERANGE)
		return fail(t, rc, "%s=%s is too large: give %llu or less", key->name, t->text,
			    (unsigned long long)(key->max ? key->max : UINT64_MAX));
	if (key->max)
		snprintf(range, sizeof(range), ", %llu to %llu", (unsigned long long)key->min,
			 (unsigned long long)key->max);
	if (rc || *end)
		return fail(t, -EINVAL, "%s=%s is not a whole number: give one%s", key->name,
			    t->text, range);
	return check_range(t, *number);
}

static int parse_time(const struct target *t, uint64_t *ms)
{
	unsigned int unit;
	const char *end;
	uint64_t number;
	int rc = parse_number(t->text, &number, &end);

	for (unit = 0; unit < NR_TIME_UNITS && strcmp(end, time_units[unit].name); unit++)
		;
	if (rc == -ERANGE || (!rc && unit < NR_TIME_UNITS &&
			      __builtin_mul_overflow(number, time_units[unit].ms, ms)))
		return fail(t, -ERANGE, "%s=%s is too long: give a shorter time", t->key->name,
			    t->text);
	if (rc || unit == NR_TIME_UNITS)
		return fail(t, -EINVAL,
			    "%s=%s is not a time: write a number and ms, s, m or h, as in %s=30s",
			    t->key->name, t->text, t->key->name);
	return check_range(t, *ms);
}

static int parse_switch(const struct target *t, uint64_t *on)
{
	const char *name = t->key->name;

	if (strcmp(t->text, "on") && strcmp(t->text, "off"))
		return fail(t, -EINVAL, "%s=%s: write %s=on or %s=off", name, t->text, name, name);
	*on = !strcmp(t->text, "on");
	return 0;
}

static int parse_choice(const struct target *t, struct zd_driver_value *value)
{
	const char *const *choices = t->key->choices;
	char list[256] = "";

	for (unsigned int i = 0; choices[i]; i++) {
		size_t n = strlen(list);

		if (!strcmp(t->text, choices[i])) {
			value->number = i;
			value->text = choices[i];
			return 0;
		}
		snprintf(list + n, sizeof(list) - n, "%s%s=%s", n ? " or " : "", t->key->name,
			 choices[i]);
	}
	return fail(t, -EINVAL, "%s=%s: write %s", t->key->name, t->text, list);
}

int zd_value_parse(const struct zd_driver_key *key, const char *text, struct zd_driver_value *value,
		   char *err, size_t errlen)
{
	const struct target t = { key, text, err, errlen };

	*value = (struct zd_driver_value){ .given = true };
	switch (key->type) {
	case ZD_KEY_SIZE:
		return parse_size(&t, &value->number);
	case ZD_KEY_SIZE_OR_PERCENT:
		return strchr(text, '%') ? parse_percent(&t, value) :
					   parse_size(&t, &value->number);
	case ZD_KEY_NUMBER:
		return parse_whole(&t, &value->number);
	case ZD_KEY_TIME:
		return parse_time(&t, &value->number);
	case ZD_KEY_SWITCH:
		return parse_switch(&t, &value->number);
	case ZD_KEY_CHOICE:
		return parse_choice(&t, value);
	case ZD_KEY_PATH:
	case ZD_KEY_TEXT:
		break;
	}
	if (!*text)
		return fail(&t, -EINVAL, "%s= is empty: give it a value", key->name);
	value->text = text;
	return 0;
}
