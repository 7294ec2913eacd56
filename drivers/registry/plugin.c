/* SPDX-License-Identifier: MIT */
/*
 * Plugins: a shared object's struct zd_driver.
 *
 * A plugin finds the library's functions in the process that loads it: the command exports them
 * (tools/meson.build), a program has them by libzonedev.so, which is made visible here where the
 * program keeps it to itself (a dlopen() of its own).  So there is one copy of the library, whose
 * pagemaps and devices the plugin's are.  A plugin that brings another copy along is refused.
 *
 * What a plugin says of itself is checked before any of it is called.  Its constructors have run by
 * then: a plugin is code that has all the rights of the program.
 *
 * A plugin is never unloaded: its devices may outlive whatever opened them, and what is called last,
 * by a put of a page in any thread, is code of the plugin's.
 */
#include "drivers/registry/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sized.h"
#include "drivers/explain.h"
#include "drivers/plugin_dir.h"
#include "zonedev.h"

struct loader {
	const char *path;
	char *err;
	size_t errlen;
};

#define fail(l, rc, ...)	zd_explain((l)->err, (l)->errlen, rc, __VA_ARGS__)

const char *zd_plugin_dir(void)
{
	const char *dir = secure_getenv("ZONEDEV_PLUGINDIR");

	return dir && *dir ? dir : ZD_PLUGIN_DIR;
}

/* @name as a path, in @path, of PATH_MAX bytes. */
static int find(const struct loader *l, const char *name, char *path)
{
	const char *suffix = strrchr(name, '.');
	bool so = suffix && !strcmp(suffix, ".so");
	struct stat st;
	int n;

	n = strchr(name, '/') ?
		    snprintf(path, PATH_MAX, "%s", name) :
		    snprintf(path, PATH_MAX, "%s/%s%s", zd_plugin_dir(), name, so ? "" : ".so");
	if (n >= PATH_MAX)
		return fail(l, -ENAMETOOLONG, "plugin: the path is too long: use a shorter one");
	if (stat(path, &st)) {
		int rc = -errno;

		if (strchr(name, '/'))
			return fail(l, rc, "plugin %s: %s: name a file that you may read", path,
				    strerrordesc_np(-rc));
		return fail(l, rc,
			    "plugin %s: %s: install it there, or name its path, as in ./%s%s", path,
			    strerrordesc_np(-rc), name, so ? "" : ".so");
	}
	/* a FIFO, say, would be waited for */
	if (!S_ISREG(st.st_mode))
		return fail(l, -EINVAL, "plugin %s: not a regular file: name a shared object",
			    path);
	return 0;
}

/* Make the library that this code is in visible to what is loaded from now on. */
static void export_library(void)
{
	Dl_info self;

	/* of the command, or of a program that is linked to the library, this changes nothing */
	if (dladdr((const void *)zd_version, &self) && self.dli_fname)
		dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
}

static int fail_dlopen(const struct loader *l)
{
	const char *why = dlerror(), *symbol;
	size_t len = strlen(l->path);

	if (!why)
		why = "dlopen fails";
	if (!strncmp(why, l->path, len) && why[len] == ':')
		why += len + 1 + (why[len + 1] == ' ');
	symbol = strstr(why, "undefined symbol: ");
	if (symbol && strstr(symbol, " zd_"))
		return fail(l, -ENOEXEC,
			    "plugin %s was built for another zonedev (%s): build it again", l->path,
			    symbol);
	return fail(l, -ENOEXEC, "plugin %s can't be loaded: %s", l->path, why);
}

static const char *check_key(const struct zd_driver_key *key, bool first)
{
	bool stands_first = first && (key->type == ZD_KEY_PATH || key->type == ZD_KEY_TEXT);

	if (key->type < ZD_KEY_PATH || key->type > ZD_KEY_CHOICE)
		return "a key of a type that is not known here";
	if (!key->help)
		return "a key without help";
	if (key->type == ZD_KEY_SWITCH && !key->without)
		return "a switch must say what holds without it";
	if (key->type == ZD_KEY_CHOICE && (!key->choices || !key->choices[0]))
		return "a choice without choices";
	if (stands_first && key->without)
		return "what stands first must be given";
	if (key->reserved_[0] || key->reserved_[1])
		return "a key with members that are not known here";
	return NULL;
}

/* What is wrong with the driver?  NULL: nothing. */
static const char *check_driver(const struct zd_driver *driver)
{
	const struct zd_driver_key *key;
	const char *what;

	if (!driver)
		return "no struct zd_driver";
	if (driver->size < sizeof(*driver) ||
	    !zd_tail_is_zero(driver, sizeof(*driver), driver->size))
		return "its struct zd_driver is too short, or has members that are not known here";
	if (driver->version != ZD_DRIVER_VERSION)
		return "its struct zd_driver is of another version than ZD_PLUGIN()'s";
	if (driver->commands != ZD_DRIVER_RUN || !driver->create)
		return "it makes no device: commands must be ZD_DRIVER_RUN, and create is needed";
	if (!driver->name || !*driver->name ||
	    driver->name[strspn(driver->name, "abcdefghijklmnopqrstuvwxyz0123456789-")])
		return "a name is needed, of small letters, digits and -";
	if (!driver->summary || !driver->example || !driver->keys)
		return "summary, example and keys are needed";
	for (key = driver->keys; key->name; key++) {
		if (key == driver->keys + ZD_DRIVER_MAX_KEYS)
			return "too many keys";
		what = check_key(key, key == driver->keys);
		if (what)
			return what;
	}
	return NULL;
}

static int check(const struct loader *l, void *handle, const struct zd_plugin *plugin)
{
	const void *version = dlsym(handle, "zd_version");
	const char *what;

	if (!plugin || plugin->magic != ZD_PLUGIN_MAGIC)
		return fail(
			l, -ENOEXEC,
			"plugin %s: not a plugin of zonedev: one has ZD_PLUGIN() (zonedev/driver.h)",
			l->path);
	if (plugin->version != ZD_DRIVER_VERSION)
		return fail(
			l, -ENOEXEC,
			"plugin %s was built for interface %u, this zonedev has %u: build it again",
			l->path, plugin->version, ZD_DRIVER_VERSION);
	/* The handle's symbols are the plugin's and those of the libraries that it needs. */
	if (version && version != (const void *)zd_version)
		return fail(
			l, -ENOEXEC,
			"plugin %s brings a libzonedev of its own: link it without (no -lzonedev)",
			l->path);
	if (plugin->key_bytes != sizeof(struct zd_driver_key) ||
	    plugin->value_bytes != sizeof(struct zd_driver_value))
		what = "its structs have other sizes: build it again";
	else
		what = check_driver(plugin->driver);
	return what ? fail(l, -EINVAL, "plugin %s: a mistake in it: %s", l->path, what) : 0;
}

int zd_plugin_load(const char *name, const struct zd_driver **driver, char *err, size_t errlen)
{
	char path[PATH_MAX];
	struct loader l = { .path = path, .err = err, .errlen = errlen };
	const struct zd_plugin *plugin;
	void *handle;
	int rc;

	rc = find(&l, name, path);
	if (rc)
		return rc;
	export_library();
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return fail_dlopen(&l);
	plugin = dlsym(handle, "zd_plugin");
	rc = check(&l, handle, plugin);
	if (rc) {
		dlclose(handle);
		return rc;
	}
	*driver = plugin->driver;
	return 0;
}
