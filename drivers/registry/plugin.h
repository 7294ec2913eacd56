/* SPDX-License-Identifier: MIT */
/* drivers/registry/plugin.h - drivers that come as shared objects. */
#ifndef ZD_DRIVERS_REGISTRY_PLUGIN_H
#define ZD_DRIVERS_REGISTRY_PLUGIN_H

#include "drivers/driver.h"

/* zd_plugin_dir - the directory of plugins that are named without a path: $ZONEDEV_PLUGINDIR, but
 * for a set-user-ID program, or where zonedev was told to install them. */
const char *zd_plugin_dir(void);

/*
 * zd_plugin_load - the driver of a plugin.  @name: a path, with a slash in it; or NAME or NAME.so,
 * of NAME.so in zd_plugin_dir().  The plugin stays loaded for ever.
 * 0; or -errno, and one line in @err that says what to do.
 * Context: may block, calls malloc; not in a child of fork().
 */
int zd_plugin_load(const char *name, const struct zd_driver **driver, char *err, size_t errlen);

#endif
