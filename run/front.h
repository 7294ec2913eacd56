/* SPDX-License-Identifier: MIT */
/* The front: under a limit of CPU time, the process that the user started. */
#ifndef ZD_RUN_FRONT_H
#define ZD_RUN_FRONT_H

#include <stdbool.h>

struct run;

/*
 * front_run - fork the server, and be the front.
 *
 * Returns the exit status (or dies of the program's signal); in the server: -1.
 */
int front_run(struct run *run, const char *path, const char *preload);

/* In the server. */

/* Have the front launch the program.  Blocks until it has.  0 or -errno. */
int front_launch(struct run *run);
/* The server can't start; the front exits with @status. */
void front_failed(struct run *run, int status);
/* The server is done; @rc: of the report.  There is no front from now on. */
void front_done(struct run *run, int rc);
/* Is it time to hand over to a new process? */
bool front_is_due(const struct run *run);

#endif
