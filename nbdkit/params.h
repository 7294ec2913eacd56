/* SPDX-License-Identifier: MIT */
/*
 * nbdkit/params.h - what the plugin is told on nbdkit's command line.
 *
 * The functions return as nbdkit's callbacks do: 0, or -1 when the user has been told.
 */
#ifndef ZD_NBDKIT_PARAMS_H
#define ZD_NBDKIT_PARAMS_H

#include "serve/region.h"

#define PARAMS_HELP							\
	"path=PATH      (required) The file or device that holds the region.\n" \
	"size=SIZE      Of a new region; a multiple of 4096.\n"		\
	"btt=on         Writes of aligned blocks are atomic.\n"		\
	"readonly=on    Nobody may write."

/* Constant once params_check() has returned 0. */
extern struct region_config params;

int params_set(const char *key, const char *value);
int params_complete(void);

/* params_check - can the region be had?  Asked before nbdkit forks, after which its user may
 * not be reading any more; region_open(), which starts threads, waits for the fork. */
int params_check(void);
void params_free(void);

#endif
