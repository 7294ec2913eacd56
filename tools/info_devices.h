/* SPDX-License-Identifier: MIT */
#ifndef ZD_TOOLS_INFO_DEVICES_H
#define ZD_TOOLS_INFO_DEVICES_H

#include <stdbool.h>
#include <stddef.h>

/*
 * info_devices - print what `zonedev info --devices` tells: the drivers and the plugins, or the one
 * that @name is, a driver's name or plugin:FILE.
 * 0; or -errno, and one line in @err.
 */
int info_devices(const char *name, bool json, char *err, size_t errlen);

#endif
