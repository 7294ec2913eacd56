/* SPDX-License-Identifier: MIT */
/*
 * zonedev/spec.h - devices and sizes as a user writes them.
 *
 * `zonedev info --devices` lists the drivers, and what each takes.
 */
#ifndef ZONEDEV_SPEC_H
#define ZONEDEV_SPEC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_device;

/*
 * zd_device_open_spec - a device from its command-line form:
 *	ram:size=1G   file:PATH   file:PATH,size=8G   file:PATH,size=8G,force=on
 *	lz4   lz4:max=2G,level=3
 *	plugin:./my.so,KEY=VALUE   (zonedev-plugin(7))
 *
 * A comma in PATH is written twice.  Sizes are of zd_parse_size()'s form, 2M or
 * more; ram needs one, file without one takes what the file system has free.
 * @err, @errlen: on failure, one line for the user that says what to do,
 * without prefix or newline.  May be NULL, 0.
 * Returns 0 or -errno.
 * Context: may block, fork-safe; parent only for a plugin, which is loaded by dlopen(3).
 */
int zd_device_open_spec(const char *spec, struct zd_device **dev, char *err, size_t errlen);

/* zd_parse_size - "64M", "1g", "4096", "1.5G", "10MiB" -> bytes: a number and
 * one of K, M, G, T, P, E (powers of 1024), with or without iB; a whole number
 * of bytes without a unit.  0; -EINVAL; -ERANGE: over 64 bits.
 * Context: signal-safe, fork-safe. */
int zd_parse_size(const char *text, uint64_t *bytes);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
