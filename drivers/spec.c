/* SPDX-License-Identifier: MIT */
/*
 * drivers/spec.c - devices and regions from the command line.
 *
 *	KIND:[PATH,]KEY=VALUE,...
 *
 * A comma in PATH is written twice.  Every refusal is one line that says what
 * to write instead; the caller puts the program's name in front.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "drivers/spec.h"
#include "zonedev/device.h"
#include "zonedev/page.h"

#define MIN_SIZE (2UL << 20)	/* below that a device isn't worth its threads */

struct spec {
	char path[PATH_MAX];
	uint64_t size;
	bool have_size;
	bool on, have_switch;	/* force= of a file, btt= of a pmem region */
	char *err;
	size_t errlen;
};

/* What stands behind the digits, K to E, with or without iB: its shift.  MB is refused: it
 * is 1000000 to some, and 1048576 to others. */
static int parse_unit(const char *p)
{
	static const char units[] = "KMGTPE";
	const char *unit;

	if (!*p)
		return 0;
	/* & ~0x20: to upper case, for letters */
	unit = strchr(units, *p & ~0x20);
	if (!unit || !*unit || (p[1] && strcasecmp(p + 1, "iB")))
		return -EINVAL;
	return 10 * (unit - units + 1);
}

int zd_parse_size(const char *text, uint64_t *bytes)
{
	uint64_t n = 0, part = 0, of = 1;
	const char *p = text, *digits;
	int shift;

	if (!text || *p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return -ERANGE;
	if (*p == '.') {
		for (digits = ++p; *p >= '0' && *p <= '9'; p++) {
			if (of > UINT64_MAX / 100)
				continue;	/* less than a byte */
			of *= 10;
			part = part * 10 + (*p - '0');
		}
		if (p == digits || !*p)
			return -EINVAL;
	}
	shift = parse_unit(p);
	if (shift < 0)
		return shift;
	if (n > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = (n << shift) + (uint64_t)(((unsigned __int128)part << shift) / of);
	return 0;
}

__attribute__((format(printf, 3, 4)))
static int fail(struct spec *spec, int ret, const char *fmt, ...)
{
	va_list ap;

	if (spec->err && spec->errlen) {
		va_start(ap, fmt);
		vsnprintf(spec->err, spec->errlen, fmt, ap);
		va_end(ap);
	}
	return ret;
}

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

static int set_size(struct spec *spec, const char *kind, const char *value)
{
	int ret = zd_parse_size(value, &spec->size);

	if (spec->have_size)
		return fail(spec, -EINVAL, "size is given twice: leave one out");
	spec->have_size = true;
	if (ret == -ERANGE)
		return fail(spec, ret, "size=%s is too large: give less than 16E", value);
	if (ret)
		return fail(spec, ret,
			    "size=%s is not a size: write a number and K, M, G or T (of 1024), as in size=8G",
			    value);
	if (!strcmp(kind, "pmem")) {
		if (!spec->size || spec->size % ZD_PAGE_SIZE)
			return fail(spec, -EINVAL,
				    "size=%s is not a multiple of 4096: give one, as in size=8G",
				    value);
	} else if (spec->size < MIN_SIZE) {
		return fail(spec, -EINVAL, "size=%s is too small: give 2M or more", value);
	}
	return 0;
}

static int set_switch(struct spec *spec, const char *key, const char *value)
{
	if (spec->have_switch)
		return fail(spec, -EINVAL, "%s is given twice: leave one out", key);
	spec->have_switch = true;
	if (strcmp(value, "on") && strcmp(value, "off"))
		return fail(spec, -EINVAL, "%s=%s: write %s=on or %s=off", key, value, key, key);
	spec->on = !strcmp(value, "on");
	return 0;
}

static int parse_options(struct spec *spec, const char *kind, const char *text)
{
	const char *key = !strcmp(kind, "file") ? "force" : !strcmp(kind, "pmem") ? "btt" : NULL;
	const char *noun = !strcmp(kind, "pmem") ? "region" : "device";
	char field[256], *value;
	int ret = 0;

	while (text && !ret) {
		ret = next_field(&text, field, sizeof(field));
		if (ret < 0)
			return fail(spec, -EINVAL, "an option of the %s is too long: use size=SIZE%s%s%s",
				    noun, key ? " and " : "", key ? key : "", key ? "=on" : "");
		value = strchr(field, '=');
		if (value)
			*value++ = '\0';
		if (value && !strcmp(field, "size"))
			ret = set_size(spec, kind, value);
		else if (value && key && !strcmp(field, key))
			ret = set_switch(spec, key, value);
		else
			ret = fail(spec, -EINVAL, "%s %s: unknown option '%s%s%s': use size=SIZE%s%s%s",
				   kind, noun, field, value ? "=" : "", value ? value : "",
				   key ? " or " : "", key ? key : "",
				   key ? "=on (a comma in a path is written ,,)" : "");
	}
	return ret;
}

static int open_ram(struct spec *spec, const char *text, struct zd_device **dev)
{
	int ret;

	if (!*text)
		return fail(spec, -EINVAL, "ram device: no size: write ram:size=1G");
	ret = parse_options(spec, "ram", text);
	if (ret)
		return ret;
	if (!spec->have_size)
		return fail(spec, -EINVAL, "ram device: no size: write ram:size=1G");
	ret = zd_ram_device_create(spec->size, dev);
	if (ret)
		return fail(spec, ret, "ram device: can't have %llu bytes (%s): give a smaller size",
			    (unsigned long long)spec->size, strerror(-ret));
	return 0;
}

static int explain_file(struct spec *spec, int ret)
{
	const char *path = spec->path;

	switch (ret) {
	case -EEXIST:
		return fail(spec, ret,
			    "%s holds data: name a new or empty file, or overwrite it with force=on",
			    path);
	case -EBUSY:
		return fail(spec, ret, "%s is in use: unmount it or name another", path);
	case -ENOTBLK:
		return fail(spec, ret, "%s is neither a file nor a block device: name one", path);
	case -EISDIR:
		return fail(spec, ret, "%s is a directory: name a file in it", path);
	case -ENOENT:
		return fail(spec, ret, "%s: there is no such directory: make it or name another",
			    path);
	case -EFBIG:
	case -ENOSPC:
		return fail(spec, ret, "%s: there is no room for size=%llu: give a smaller size",
			    path, (unsigned long long)spec->size);
	case -EINVAL:
		return fail(spec, ret, "%s: can't tell how large it may be: add size=8G", path);
	default:
		return fail(spec, ret, "%s: %s: name a file that you may read and write", path,
			    strerror(-ret));
	}
}

static int open_file(struct spec *spec, const char *text, struct zd_device **dev)
{
	int ret = next_field(&text, spec->path, sizeof(spec->path));

	if (ret < 0)
		return fail(spec, ret, "file device: the path is too long: use a shorter one");
	if (!ret || !strncmp(spec->path, "size=", 5) || !strncmp(spec->path, "force=", 6))
		return fail(spec, -EINVAL,
			    "file device: no path: write file:/var/tmp/device,size=8G");
	ret = parse_options(spec, "file", text);
	if (ret)
		return ret;
	ret = zd_file_device_create(spec->path, spec->size, spec->on ? ZD_FILE_FORCE : 0, dev);
	return ret ? explain_file(spec, ret) : 0;
}

int zd_device_open_spec(const char *text, struct zd_device **dev, char *err, size_t errlen)
{
	struct spec spec = { .err = err, .errlen = errlen };

	if (!strncmp(text, "ram:", 4))
		return open_ram(&spec, text + 4, dev);
	if (!strcmp(text, "ram"))
		return open_ram(&spec, "", dev);
	if (!strncmp(text, "file:", 5))
		return open_file(&spec, text + 5, dev);
	if (!strcmp(text, "file"))
		return open_file(&spec, "", dev);
	return fail(&spec, -EINVAL,
		    "'%.64s' is no device: use ram:size=SIZE or file:PATH,size=SIZE", text);
}

int zd_pmem_parse_spec(const char *text, struct zd_pmem_spec *out, char *err, size_t errlen)
{
	struct spec spec = { .err = err, .errlen = errlen };
	int ret;

	if (strncmp(text, "pmem:", 5))
		return fail(&spec, -EINVAL, "'%.64s' is no region: use pmem:PATH,size=SIZE", text);
	text += 5;
	ret = next_field(&text, spec.path, sizeof(spec.path));
	if (ret < 0)
		return fail(&spec, -EINVAL, "pmem region: the path is too long: use a shorter one");
	if (!ret || !strncmp(spec.path, "size=", 5) || !strncmp(spec.path, "btt=", 4))
		return fail(&spec, -EINVAL,
			    "pmem region: no path: write pmem:/var/tmp/region,size=8G");
	ret = parse_options(&spec, "pmem", text);
	if (ret)
		return ret;
	memcpy(out->path, spec.path, sizeof(out->path));
	out->bytes = spec.size;
	out->btt = spec.on;
	return 0;
}
