/* SPDX-License-Identifier: MIT */
/* Starting the program. */
#ifndef ZD_RUN_LAUNCH_H
#define ZD_RUN_LAUNCH_H

struct run;

/*
 * launch - start the program at @path, with the agent's library @preload.
 *
 * Blocks until the child has exec'ed.  0 with run->child.pid set, or -errno.
 */
int launch(struct run *run, const char *path, const char *preload);

#endif
