/* SPDX-License-Identifier: MIT */
/* Signals that the supervisor gets. */
#ifndef ZD_RUN_SIGNALS_H
#define ZD_RUN_SIGNALS_H

struct run;

/* signals_block - from now on signals wait to be read.  Before there are threads. */
void signals_block(void);
/* signals_give_back - in the child, for the program: signals are as the starter had them. */
void signals_give_back(void);

/* Read signals, and pass them on; in the thread that serves.  0 or -errno. */
int signals_open(struct run *run);
/* In the half that goes to the background: there is nothing to pass on any more. */
void signals_background(struct run *run);
void signals_close(struct run *run);

#endif
