/* SPDX-License-Identifier: MIT */
/* Regions of persistent memory from the command line. */
#ifndef ZD_DRIVERS_SPEC_H
#define ZD_DRIVERS_SPEC_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* struct zd_pmem_spec - @bytes: 0 where no size was given. */
struct zd_pmem_spec {
	char path[PATH_MAX];
	uint64_t bytes;
	bool btt;
};

/*
 * zd_pmem_parse_spec - pmem:PATH[,size=SIZE][,btt=on|off].  A comma in PATH is
 * written twice.  Opens nothing.
 * 0, or -EINVAL or -ERANGE with one line in @err, as zd_device_open_spec() has it.
 */
int zd_pmem_parse_spec(const char *text, struct zd_pmem_spec *out, char *err, size_t errlen);

#endif
