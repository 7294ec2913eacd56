/* SPDX-License-Identifier: MIT */
/* Ending connections when the server is told to end. */
#ifndef ZD_NBDKIT_HANGUP_H
#define ZD_NBDKIT_HANGUP_H

#include <stdbool.h>

/* hangup_start - from now on a signal that ends the server is told to @fd, an
 * eventfd, too.  nbdkit's handlers and its listening sockets must be there. */
void hangup_start(int fd);

/* hangup_clients - send those away that there are now, and aren't sending: @all:
 * also those that are.  One thread. */
void hangup_clients(bool all);

#endif
