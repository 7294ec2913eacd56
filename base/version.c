/* SPDX-License-Identifier: MIT */
#include <zonedev.h>

#ifndef ZD_VERSION
#error "ZD_VERSION comes from the build system"
#endif

const char *zd_version(void)
{
	return ZD_VERSION;
}
