/* SPDX-License-Identifier: MIT */
/* Finding the program and starting it. */
#ifndef ZD_RUN_LAUNCH_H
#define ZD_RUN_LAUNCH_H

#include <stddef.h>
#include "run/run.h"

/*
 * Is CMD there, and will it load the agent?  Returns 0, or the exit status
 * after one line on stderr: 127 not found, 126 not executable, 2 can't be
 * managed (statically linked, set-user-ID).
 */
int launch_check(const char *cmd, char *path, size_t len);

/* Start it.  0 with run->child set, or -errno. */
int launch(struct run *run, const char *path, const char *preload);

#endif
