/* SPDX-License-Identifier: MIT */
/* The supervisor's loop. */
#ifndef ZD_RUN_SUPERVISE_H
#define ZD_RUN_SUPERVISE_H

struct run;

/*
 * supervise - launch the program at @path with the agent's library @preload, and serve until the
 * last process of its tree has ended.
 *
 * Returns the exit status, or dies of the signal that ended the program.  The half that goes
 * on in the background, or behind a front, doesn't return.
 */
int supervise(struct run *run, const char *path, const char *preload);

#endif
