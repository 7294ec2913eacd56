/* SPDX-License-Identifier: MIT */
/* The plugin's parameters; see params.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "nbdkit/params.h"

struct region_config params = { .attr = { .size = sizeof(params.attr) } };

static int set_flag(unsigned int flag, const char *value)
{
	int b = nbdkit_parse_bool(value);

	if (b < 0)
		return -1;
	params.attr.flags = b ? params.attr.flags | flag : params.attr.flags & ~flag;
	return 0;
}

static int set_path(const char *value)
{
	/* nbdkit changes directory. */
	params.path = zd_pmem_memfd_name(value) ? strdup(value) : nbdkit_absolute_path(value);
	return params.path ? 0 : -1;
}

static int set_size(const char *value)
{
	int64_t size = nbdkit_parse_size(value);

	if (size < 0)
		return -1;
	if (!size || size % (int64_t)ZD_PAGE_SIZE) {
		nbdkit_error("size=%s is not a multiple of 4096", value);
		return -1;
	}
	params.attr.bytes = size;
	return 0;
}

int params_set(const char *key, const char *value)
{
	if (!strcmp(key, "path") && params.path) {
		nbdkit_error("path is given twice");
		return -1;
	}
	if (!strcmp(key, "path"))
		return set_path(value);
	if (!strcmp(key, "size"))
		return set_size(value);
	if (!strcmp(key, "btt"))
		return set_flag(ZD_PMEM_BTT, value);
	if (!strcmp(key, "readonly"))
		return set_flag(ZD_PMEM_READONLY, value);
	nbdkit_error("unknown parameter '%s'", key);
	return -1;
}

int params_complete(void)
{
	if (params.path)
		return 0;
	nbdkit_error("no region: give path=PATH (and size=SIZE for a new one)");
	return -1;
}

int params_check(void)
{
	bool is_new = zd_pmem_memfd_name(params.path);
	struct stat st;

	if (!is_new && stat(params.path, &st)) {
		if (errno != ENOENT || params.attr.flags & ZD_PMEM_READONLY) {
			nbdkit_error("%s: %s", params.path, strerrordesc_np(errno));
			return -1;
		}
		is_new = true;
	}
	if (is_new && !params.attr.bytes) {
		nbdkit_error("%s isn't there: give size=SIZE to make it", params.path);
		return -1;
	}
	return 0;
}

void params_free(void)
{
	free((char *)params.path);
}
