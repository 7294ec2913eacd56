/* SPDX-License-Identifier: MIT */
/* zonedev.h - all of zonedev's public headers. */
#ifndef ZONEDEV_H
#define ZONEDEV_H

#include <zonedev/page.h>
#include <zonedev/page_owner.h>
#include <zonedev/pagemap.h>
#include <zonedev/percpu_ref.h>
#include <zonedev/devm.h>
#include <zonedev/log.h>
#include <zonedev/static_key.h>
#include <zonedev/device.h>
#include <zonedev/mm.h>
#include <zonedev/migrate.h>
#include <zonedev/gup.h>
#include <zonedev/dax.h>
#include <zonedev/p2pdma.h>
#include <zonedev/pmem.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* zd_version - the library's version, "0.1.0".  Static; any context. */
const char *zd_version(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
